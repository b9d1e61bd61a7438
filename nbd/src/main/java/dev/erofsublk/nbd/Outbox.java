// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Sockets;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Replies on their way to one client: headers written here, and addresses of data that the kernel will copy from.
 *
 * <pre>
 *   messages  [ reply a        ][ reply b                     ]      struct mmsghdr
 *                |                 |
 *   iovecs    [hdr][data]       [hdr][data][data][hdr]               struct iovec
 *               |    |            |
 *   headers   [....] |          [....]                               this buffer
 *                    +--> the mapping, which only the kernel reads
 * </pre>
 *
 * <p>An address in the mapping may turn out bad while it is sent (the file was truncated, or its disk fails). What
 * then becomes of the reply:
 *
 * <ul>
 *   <li>Nothing of it has left: it becomes an error reply. A wire that {@link Wire#isAtomic() is atomic} gives that for
 *       each reply of up to {@link #ATOMIC_BYTES}, because each is a message of its own.
 *   <li>A structured reply that is under way is completed with zeros and followed by an error chunk, as the
 *       specification asks; for that, a longer reply does not say DONE before its {@linkplain #closing closing chunk}.
 *   <li>Else the connection is given up: no client may take what was sent for data.
 * </ul>
 *
 * <p>Everything is allocated once. Used by one thread.
 */
final class Outbox {
    /** The most data of a reply that is sent as a whole or not at all where the wire is atomic. */
    static final int ATOMIC_BYTES = 32 << 10;

    private static final int MESSAGES = 256;
    private static final int HEADER_BYTES = 64 << 10;
    /** Room for a reply of ATOMIC_BYTES in pieces of a sector, each with a header. */
    private static final int IOVECS_A_REPLY = 2 * (ATOMIC_BYTES / 512) + 2;

    private static final int HEADERS_A_REPLY = 32 * IOVECS_A_REPLY / 2 + 64;

    /** Several replies, or a part of one, that cannot be taken back. */
    private static final byte FIXED = 0;

    private static final byte SIMPLE = 1;
    private static final byte STRUCTURED = 2;

    /** Pages of zeros, for holes and for what could not be read. */
    private static final class ZeroPages {
        static final long ADDRESS = map();

        private static long map() {
            try {
                int flags = Linux.MAP_PRIVATE | Linux.MAP_ANONYMOUS | Linux.MAP_NORESERVE;
                return Linux.mmap(0, Nbd.MAX_PAYLOAD, Linux.PROT_READ, flags, -1, 0);
            } catch (LinuxException e) {
                throw new OutOfMemoryError(e.getMessage());
            }
        }
    }

    private final Wire wire;
    private final boolean atomic;
    private final MemorySegment headers;
    private final MemorySegment iovecs;
    private final MemorySegment messages;
    private final byte[] kinds = new byte[MESSAGES];
    private final long[] cookies = new long[MESSAGES];
    private final long[] totals = new long[MESSAGES];
    private final int[] closings = new int[MESSAGES]; // where in headers the closing chunk lies, or -1
    private final boolean[] parts = new boolean[MESSAGES]; // the beginning of the reply went with an earlier message

    private int messageCount;
    private int iovecCount;
    private int headerEnd;

    // The message being put together
    private int firstIovec;
    private long bytes;
    private byte kind;
    private long cookie;
    private int closing = -1;
    private boolean inReply;
    private boolean continued; // its beginning went with an earlier message
    private boolean spoiled; // that one had to be completed with zeros

    Outbox(Arena arena, Wire wire) {
        this.wire = wire;
        atomic = wire.isAtomic();
        headers = arena.allocate(HEADER_BYTES, 8);
        iovecs = arena.allocate((long) Sockets.IOV_MAX * Sockets.IOVEC_BYTES, 8);
        messages = arena.allocate((long) MESSAGES * Sockets.MMSGHDR_BYTES, 8);
    }

    /** A reply without data. */
    void simple(long cookie, int error) throws IOException {
        begin(cookie, SIMPLE);
        simpleHeader(error);
        end();
    }

    /** A structured reply that is just an error. */
    void errorChunk(long cookie, int error) throws IOException {
        begin(cookie, STRUCTURED);
        int at = header(Nbd.ERROR_CHUNK_BYTES);
        putError(at, error);
        end();
    }

    /** Begins a simple reply to a read; its data follows by {@link #data} and {@link #zeros}. */
    void beginSimple(long cookie) throws IOException {
        begin(cookie, SIMPLE);
        simpleHeader(0);
    }

    /** Begins a structured reply; chunks follow. */
    void beginStructured(long cookie) throws IOException {
        begin(cookie, STRUCTURED);
    }

    /** A chunk of data, which follows by {@link #data} and {@link #zeros}. */
    void dataChunk(boolean done, long offset, long length) throws IOException {
        int at = chunk(done, Nbd.REPLY_TYPE_OFFSET_DATA, 8, (int) (8 + length));
        headers.set(Nbd.LONG, at, offset);
    }

    /** A chunk that says: these bytes are zeros. */
    void holeChunk(boolean done, long offset, long length) throws IOException {
        int at = chunk(done, Nbd.REPLY_TYPE_OFFSET_HOLE, 12, 12);
        headers.set(Nbd.LONG, at, offset);
        headers.set(Nbd.INT, at + 8, (int) length);
    }

    /** A chunk of {@code length} bytes, to be written to {@link #headers()} where this returns. */
    int chunk(int type, int length) throws IOException {
        return chunk(true, type, length, length);
    }

    private int chunk(boolean done, int type, int here, int length) throws IOException {
        int at = header(Nbd.CHUNK_BYTES + here);
        putChunk(at, done ? Nbd.REPLY_FLAG_DONE : 0, type, length);
        return at + Nbd.CHUNK_BYTES;
    }

    /** The last chunk of a reply of which none said DONE. */
    void closing() throws IOException {
        int at = header(Nbd.ERROR_CHUNK_BYTES); // room for the error that it may have to become
        if (spoiled) {
            putError(at, Nbd.EIO);
        } else {
            putChunk(at, Nbd.REPLY_FLAG_DONE, Nbd.REPLY_TYPE_NONE, 0);
            trimHeader(Nbd.ERROR_CHUNK_BYTES - Nbd.CHUNK_BYTES);
        }
        closing = at;
    }

    MemorySegment headers() {
        return headers;
    }

    /** Data at an address that only the kernel will look at. */
    void data(long address, long length) throws IOException {
        if (iovecCount == Sockets.IOV_MAX) {
            spill();
        }
        addIovec(address, length);
    }

    /** That many zeros, at most {@link Nbd#MAX_PAYLOAD}. */
    void zeros(long length) throws IOException {
        data(ZeroPages.ADDRESS, length);
    }

    /** Ends the reply. */
    void end() {
        inReply = false;
        if (atomic) {
            closeMessage();
        }
    }

    private void begin(long cookie, byte kind) throws IOException {
        if (messageCount == MESSAGES
                || iovecCount > Sockets.IOV_MAX - IOVECS_A_REPLY
                || headerEnd > HEADER_BYTES - HEADERS_A_REPLY) {
            flush();
        }
        this.cookie = cookie;
        this.kind = atomic ? kind : FIXED;
        inReply = true;
        continued = false;
        spoiled = false;
        closing = -1;
    }

    private void simpleHeader(int error) throws IOException {
        int at = header(Nbd.SIMPLE_REPLY_BYTES);
        putSimple(at, error, cookie);
    }

    private void putSimple(int at, int error, long cookie) {
        headers.set(Nbd.INT, at, Nbd.SIMPLE_REPLY_MAGIC);
        headers.set(Nbd.INT, at + 4, error);
        headers.set(Nbd.LONG, at + 8, cookie);
    }

    private void putChunk(int at, int flags, int type, int length) {
        headers.set(Nbd.INT, at, Nbd.STRUCTURED_REPLY_MAGIC);
        headers.set(Nbd.INT, at + 4, flags << 16 | type);
        headers.set(Nbd.LONG, at + 8, cookie);
        headers.set(Nbd.INT, at + 16, length);
    }

    private void putError(int at, int error) {
        putChunk(at, Nbd.REPLY_FLAG_DONE, Nbd.REPLY_TYPE_ERROR, 6);
        headers.set(Nbd.INT, at + 20, error);
        headers.set(Nbd.SHORT, at + 24, (short) 0);
    }

    private int header(int length) throws IOException {
        if (iovecCount == Sockets.IOV_MAX || headerEnd > HEADER_BYTES - length) {
            spill();
        }
        int at = headerEnd;
        headerEnd += length;
        addIovec(headers.address() + at, length);
        return at;
    }

    private void trimHeader(int unused) {
        long at = (long) (iovecCount - 1) * Sockets.IOVEC_BYTES + 8;
        iovecs.set(JAVA_LONG, at, iovecs.get(JAVA_LONG, at) - unused);
        bytes -= unused;
    }

    private void addIovec(long address, long length) {
        long at = (long) iovecCount++ * Sockets.IOVEC_BYTES;
        iovecs.set(JAVA_LONG, at, address);
        iovecs.set(JAVA_LONG, at + 8, length);
        bytes += length;
    }

    private void closeMessage() {
        if (iovecCount == firstIovec) {
            return;
        }
        long at = (long) messageCount * Sockets.MMSGHDR_BYTES;
        messages.set(JAVA_LONG, at + Sockets.MSG_IOV, iovecs.address() + (long) firstIovec * Sockets.IOVEC_BYTES);
        messages.set(JAVA_LONG, at + Sockets.MSG_IOVLEN, iovecCount - firstIovec);
        kinds[messageCount] = kind;
        cookies[messageCount] = cookie;
        totals[messageCount] = bytes;
        closings[messageCount] = closing;
        parts[messageCount] = continued;
        messageCount++;
        firstIovec = iovecCount;
        bytes = 0;
    }

    /** Sends a part of a reply, to have room for its rest. */
    private void spill() throws IOException {
        flush();
        continued = true;
    }

    /** Sends everything. */
    void flush() throws IOException {
        closeMessage();
        for (int first = 0; first < messageCount; ) {
            int sent = wire.send(messages, first, messageCount - first);
            if (sent == -Errno.EFAULT) {
                refuse(first);
                continue;
            }
            first += sent;
            complete(first - 1);
        }
        messageCount = 0;
        iovecCount = 0;
        firstIovec = 0;
        headerEnd = 0;
    }

    /** Whether message {@code m} is the part of a reply that another part will follow. */
    private boolean isOpen(int m) {
        return inReply && m == messageCount - 1;
    }

    /** Nothing of message {@code m} could be sent: makes it an error reply. */
    private void refuse(int m) throws Disconnect {
        if (kinds[m] == FIXED || isOpen(m) || parts[m]) {
            pad(m);
            return;
        }
        long message = (long) m * Sockets.MMSGHDR_BYTES;
        long iovec = messages.get(JAVA_LONG, message + Sockets.MSG_IOV) - iovecs.address();
        int at = (int) (iovecs.get(JAVA_LONG, iovec) - headers.address()); // a reply begins with a header
        long length;
        if (kinds[m] == SIMPLE) {
            putSimple(at, Nbd.EIO, cookies[m]);
            length = Nbd.SIMPLE_REPLY_BYTES;
        } else {
            putErrorFor(m, at);
            length = Nbd.ERROR_CHUNK_BYTES; // fits: a data chunk's header has 28 bytes
        }
        iovecs.set(JAVA_LONG, iovec + 8, length);
        messages.set(JAVA_LONG, message + Sockets.MSG_IOVLEN, 1);
        totals[m] = length;
    }

    private void putErrorFor(int m, int at) {
        long open = cookie;
        cookie = cookies[m];
        putError(at, Nbd.EIO);
        cookie = open;
    }

    /** Sends what is left of message {@code m}, of which a part was sent. */
    private void complete(int m) throws IOException {
        long message = (long) m * Sockets.MMSGHDR_BYTES;
        for (; ; ) {
            int sent = messages.get(JAVA_INT, message + Sockets.MSG_LEN);
            if (sent == totals[m]) {
                return;
            }
            advance(m, message, sent);
            while (wire.send(messages, m, 1) == -Errno.EFAULT) {
                pad(m);
            }
        }
    }

    private void advance(int m, long message, long sent) {
        long iovec = messages.get(JAVA_LONG, message + Sockets.MSG_IOV) - iovecs.address();
        long left = sent;
        int passed = 0;
        for (long length; (length = iovecs.get(JAVA_LONG, iovec + 8)) <= left; iovec += Sockets.IOVEC_BYTES) {
            left -= length;
            passed++;
        }
        iovecs.set(JAVA_LONG, iovec, iovecs.get(JAVA_LONG, iovec) + left);
        iovecs.set(JAVA_LONG, iovec + 8, iovecs.get(JAVA_LONG, iovec + 8) - left);
        messages.set(JAVA_LONG, message + Sockets.MSG_IOV, iovecs.address() + iovec);
        messages.set(
                JAVA_LONG,
                message + Sockets.MSG_IOVLEN,
                messages.get(JAVA_LONG, message + Sockets.MSG_IOVLEN) - passed);
        totals[m] -= sent;
    }

    /** Lets zeros take the place of the data that message {@code m} has yet to send, and an error follow them. */
    private void pad(int m) throws Disconnect {
        boolean open = isOpen(m);
        if (kinds[m] != STRUCTURED || (!open && closings[m] < 0)) {
            throw Disconnect.because("bytes of the image went missing while they were being sent");
        }
        long message = (long) m * Sockets.MMSGHDR_BYTES;
        long iovec = messages.get(JAVA_LONG, message + Sockets.MSG_IOV) - iovecs.address();
        long count = messages.get(JAVA_LONG, message + Sockets.MSG_IOVLEN);
        for (long i = 0; i < count; i++, iovec += Sockets.IOVEC_BYTES) {
            long address = iovecs.get(JAVA_LONG, iovec);
            if (address < headers.address() || address >= headers.address() + HEADER_BYTES) {
                iovecs.set(JAVA_LONG, iovec, ZeroPages.ADDRESS);
            }
        }
        if (open) {
            spoiled = true;
            return;
        }
        long last = iovec - Sockets.IOVEC_BYTES + 8;
        totals[m] += Nbd.ERROR_CHUNK_BYTES - iovecs.get(JAVA_LONG, last);
        iovecs.set(JAVA_LONG, last, Nbd.ERROR_CHUNK_BYTES);
        putErrorFor(m, closings[m]);
    }
}

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
 *   messages  [ a, b, c                     ][ d        ]            struct mmsghdr
 *                |         |         |          |
 *   iovecs    [hdr][data][hdr][data][hdr]    [hdr][data][data][hdr]  struct iovec
 *               |    |     |
 *   headers   [....] |   [....]                                      this buffer
 *                    +--> the mapping, which only the kernel reads
 * </pre>
 *
 * <p>An address in the mapping may turn out bad while it is sent (the file was truncated, or its disk fails). What
 * then becomes of the reply:
 *
 * <ul>
 *   <li>Nothing of it has left: it becomes an error reply. A wire that {@link Wire#isAtomic() is atomic} gives that for
 *       each reply of up to {@link #ATOMIC_BYTES}: small replies share messages of at most {@link #MESSAGE_BYTES}, and
 *       when one is refused as a whole its replies are sent one by one.
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

    /** That with its headers. A unix socket puts up to 36544 bytes into one buffer (Linux 6.12, 6.18, 7.2; SocketsTest). */
    private static final int MESSAGE_BYTES = 35 << 10;

    private static final int REPLIES = 256;
    private static final int HEADER_BYTES = 64 << 10;
    /** Room for a reply of ATOMIC_BYTES in pieces of a sector, each with a header. */
    private static final int IOVECS_A_REPLY = 2 * (ATOMIC_BYTES / 512) + 2;

    private static final int HEADERS_A_REPLY = 32 * IOVECS_A_REPLY / 2 + 64;

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
    private final long messageLimit;
    private final MemorySegment headers;
    private final MemorySegment iovecs;
    private final MemorySegment messages;
    private final int[] messageEnds = new int[REPLIES]; // the first reply behind each message

    // The replies that are ready
    private final boolean[] structured = new boolean[REPLIES];
    private final long[] cookies = new long[REPLIES];
    private final long[] totals = new long[REPLIES]; // bytes yet to send
    private final int[] firstIovecs = new int[REPLIES + 1]; // the last is where the reply being put together begins
    private final int[] closings = new int[REPLIES]; // where in headers the closing chunk lies, or -1
    private final boolean[] parts = new boolean[REPLIES]; // the beginning of the reply has been sent before
    private final long[] abouts = new long[REPLIES];
    private int replyCount;
    private int iovecCount;
    private int headerEnd;

    // The reply being put together
    private boolean inReply;
    private long about;
    private boolean isStructured;
    private long cookie;
    private long bytes;
    private int closing;
    private boolean continued; // its beginning has been sent
    private boolean spoiled; // and had to be completed with zeros

    private long failures;
    private long lastFailure = -1;

    Outbox(Arena arena, Wire wire) {
        this.wire = wire;
        messageLimit = wire.isAtomic() ? MESSAGE_BYTES : Long.MAX_VALUE;
        headers = arena.allocate(HEADER_BYTES, 8);
        iovecs = arena.allocate((long) Sockets.IOV_MAX * Sockets.IOVEC_BYTES, 8);
        messages = arena.allocate((long) REPLIES * Sockets.MMSGHDR_BYTES, 8);
    }

    /** Says which byte of the device the replies are about that begin from here on. */
    void about(long offset) {
        about = offset;
    }

    /** How many replies have become, or are to be, {@link Nbd#EIO}. */
    long failures() {
        return failures;
    }

    /** What the last of those was {@linkplain #about about}; -1 if there was none. */
    long lastFailure() {
        return lastFailure;
    }

    private void countFailure(long offset) {
        failures++;
        lastFailure = offset;
    }

    /** A reply without data. */
    void simple(long cookie, int error) throws IOException {
        if (error == Nbd.EIO) {
            countFailure(about);
        }
        begin(cookie, false);
        simpleHeader(error);
        end();
    }

    /** A structured reply that is just an error. */
    void errorChunk(long cookie, int error) throws IOException {
        if (error == Nbd.EIO) {
            countFailure(about);
        }
        begin(cookie, true);
        int at = header(Nbd.ERROR_CHUNK_BYTES);
        putError(at, cookie, error);
        end();
    }

    /** Begins a simple reply to a read; its data follows by {@link #data} and {@link #zeros}. */
    void beginSimple(long cookie) throws IOException {
        begin(cookie, false);
        simpleHeader(0);
    }

    /** Begins a structured reply; chunks follow. */
    void beginStructured(long cookie) throws IOException {
        begin(cookie, true);
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
        putChunk(at, cookie, done ? Nbd.REPLY_FLAG_DONE : 0, type, length);
        return at + Nbd.CHUNK_BYTES;
    }

    /** The last chunk of a reply of which none said DONE. */
    void closing() throws IOException {
        int at = header(Nbd.ERROR_CHUNK_BYTES); // room for the error that it may have to become
        if (spoiled) {
            putError(at, cookie, Nbd.EIO);
        } else {
            putChunk(at, cookie, Nbd.REPLY_FLAG_DONE, Nbd.REPLY_TYPE_NONE, 0);
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
            flush();
        }
        addIovec(address, length);
    }

    /** That many zeros, at most {@link Nbd#MAX_PAYLOAD}. */
    void zeros(long length) throws IOException {
        data(ZeroPages.ADDRESS, length);
    }

    /** Ends the reply. */
    void end() {
        closeReply();
        inReply = false;
    }

    private void begin(long cookie, boolean structured) throws IOException {
        if (replyCount == REPLIES
                || iovecCount > Sockets.IOV_MAX - IOVECS_A_REPLY
                || headerEnd > HEADER_BYTES - HEADERS_A_REPLY) {
            flush();
        }
        this.cookie = cookie;
        isStructured = structured;
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

    private void putChunk(int at, long cookie, int flags, int type, int length) {
        headers.set(Nbd.INT, at, Nbd.STRUCTURED_REPLY_MAGIC);
        headers.set(Nbd.INT, at + 4, flags << 16 | type);
        headers.set(Nbd.LONG, at + 8, cookie);
        headers.set(Nbd.INT, at + 16, length);
    }

    private void putError(int at, long cookie, int error) {
        putChunk(at, cookie, Nbd.REPLY_FLAG_DONE, Nbd.REPLY_TYPE_ERROR, 6);
        headers.set(Nbd.INT, at + 20, error);
        headers.set(Nbd.SHORT, at + 24, (short) 0);
    }

    private int header(int length) throws IOException {
        if (iovecCount == Sockets.IOV_MAX || headerEnd > HEADER_BYTES - length) {
            flush();
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

    private void closeReply() {
        structured[replyCount] = isStructured;
        cookies[replyCount] = cookie;
        totals[replyCount] = bytes;
        closings[replyCount] = closing;
        parts[replyCount] = continued;
        abouts[replyCount] = about;
        firstIovecs[++replyCount] = iovecCount;
        bytes = 0;
    }

    /** Sends everything, of a reply being put together what there is: more of it may follow. */
    void flush() throws IOException {
        if (bytes > 0) {
            closeReply();
            continued = true;
        }
        boolean single = false;
        for (int next = 0; next < replyCount; ) {
            int count = single ? message(0, next, next + 1) : gather(next);
            int sent = wire.send(messages, count);
            if (sent != -Errno.EFAULT) {
                single = false;
                next = advance(sent == 1 ? next : messageEnds[sent - 2], sent - 1);
            } else if (messageEnds[0] > next + 1) {
                single = true; // find out whose it is
            } else {
                refuse(next);
            }
        }
        replyCount = 0;
        iovecCount = 0;
        headerEnd = 0;
    }

    /** Puts all replies from {@code next} on into messages; returns how many. */
    private int gather(int next) {
        int count = 0;
        for (int first = next; first < replyCount; count++) {
            int end = first;
            long size = totals[end++];
            while (end < replyCount && size + totals[end] <= messageLimit) {
                size += totals[end++];
            }
            message(count, first, end);
            first = end;
        }
        return count;
    }

    /** Puts the replies from {@code first} to {@code end} into message {@code m}; returns the number of messages. */
    private int message(int m, int first, int end) {
        long at = (long) m * Sockets.MMSGHDR_BYTES;
        messages.set(JAVA_LONG, at + Sockets.MSG_IOV, iovecs.address() + iovecAt(firstIovecs[first]));
        messages.set(JAVA_LONG, at + Sockets.MSG_IOVLEN, firstIovecs[end] - firstIovecs[first]);
        messageEnds[m] = end;
        return m + 1;
    }

    private static long iovecAt(int iovec) {
        return (long) iovec * Sockets.IOVEC_BYTES;
    }

    /**
     * Passes over what was sent of message {@code m}, and sees a reply through of which only a part was.
     *
     * @param first the message's first reply
     * @return the first reply that has not been sent
     */
    private int advance(int first, int m) throws IOException {
        long sent = Integer.toUnsignedLong(messages.get(JAVA_INT, (long) m * Sockets.MMSGHDR_BYTES + Sockets.MSG_LEN));
        int next = first;
        int end = messageEnds[m];
        while (next < end && sent >= totals[next]) {
            sent -= totals[next++];
        }
        if (next < end && sent > 0) {
            complete(next, sent);
            next++;
        }
        return next;
    }

    /** Sends what is left of reply {@code r}, of which {@code sent} bytes have been. */
    private void complete(int r, long sent) throws IOException {
        skip(r, sent);
        while (totals[r] > 0) {
            int count = message(0, r, r + 1);
            if (wire.send(messages, count) == -Errno.EFAULT) {
                pad(r);
            } else {
                skip(r, Integer.toUnsignedLong(messages.get(JAVA_INT, Sockets.MSG_LEN)));
            }
        }
    }

    private void skip(int r, long sent) {
        long left = sent;
        for (int i = firstIovecs[r]; left > 0; i++) {
            long at = iovecAt(i);
            long n = Math.min(left, iovecs.get(JAVA_LONG, at + 8));
            iovecs.set(JAVA_LONG, at, iovecs.get(JAVA_LONG, at) + n);
            iovecs.set(JAVA_LONG, at + 8, iovecs.get(JAVA_LONG, at + 8) - n);
            left -= n;
        }
        totals[r] -= sent;
    }

    /** Whether reply {@code r} is a part that another will follow. */
    private boolean isOpen(int r) {
        return inReply && r == replyCount - 1;
    }

    /** Nothing of {@code r} could be sent: makes it an error reply. */
    private void refuse(int r) throws Disconnect {
        if (parts[r] || isOpen(r)) {
            pad(r);
            return;
        }
        countFailure(abouts[r]);
        long first = iovecAt(firstIovecs[r]);
        int at = (int) (iovecs.get(JAVA_LONG, first) - headers.address()); // a reply begins with a header
        if (structured[r]) {
            putError(at, cookies[r], Nbd.EIO);
            totals[r] = Nbd.ERROR_CHUNK_BYTES; // fits: a data chunk's header has 28 bytes
        } else {
            putSimple(at, Nbd.EIO, cookies[r]);
            totals[r] = Nbd.SIMPLE_REPLY_BYTES;
        }
        iovecs.set(JAVA_LONG, first + 8, totals[r]);
        for (int i = firstIovecs[r] + 1; i < firstIovecs[r + 1]; i++) {
            iovecs.set(JAVA_LONG, iovecAt(i), headers.address());
            iovecs.set(JAVA_LONG, iovecAt(i) + 8, 0);
        }
    }

    /** Lets zeros take the place of the data that {@code r} has yet to send, and an error follow them. */
    private void pad(int r) throws Disconnect {
        countFailure(abouts[r]);
        boolean open = isOpen(r);
        if (!structured[r] || (!open && closings[r] < 0)) {
            throw Disconnect.because("bytes of the image went missing while they were being sent");
        }
        for (int i = firstIovecs[r]; i < firstIovecs[r + 1]; i++) {
            long address = iovecs.get(JAVA_LONG, iovecAt(i));
            if (address < headers.address() || address >= headers.address() + HEADER_BYTES) {
                iovecs.set(JAVA_LONG, iovecAt(i), ZeroPages.ADDRESS);
            }
        }
        if (open) {
            spoiled = true;
            return;
        }
        long last = iovecAt(firstIovecs[r + 1] - 1) + 8;
        totals[r] += Nbd.ERROR_CHUNK_BYTES - iovecs.get(JAVA_LONG, last);
        iovecs.set(JAVA_LONG, last, Nbd.ERROR_CHUNK_BYTES);
        putError(closings[r], cookies[r], Nbd.EIO);
    }
}

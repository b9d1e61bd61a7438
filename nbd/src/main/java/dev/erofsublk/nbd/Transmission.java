// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * The transmission phase of one connection: takes as many requests as there are, answers those that need no waiting with
 * one system call, then the others.
 *
 * <p>Allocates nothing for a request.
 *
 * {@snippet lang="c" :
 * struct nbd_request {           // 28 bytes, big-endian
 *     uint32_t magic;            // @0  0x25609513
 *     uint16_t flags;            // @4
 *     uint16_t type;             // @6
 *     uint64_t cookie;           // @8
 *     uint64_t offset;           // @16
 *     uint32_t length;           // @24
 * };
 * }
 */
final class Transmission {
    /** The most extents of one answer to NBD_CMD_BLOCK_STATUS; the client asks again for the rest. */
    private static final int MAX_EXTENTS = 2048;

    private final Session session;
    private final Export export;
    private final Inbox in;
    private final Outbox out;
    private final Reads reads;
    private final MemorySegment requests;
    private final int[] waiting = new int[Inbox.CAPACITY / Nbd.REQUEST_BYTES];
    private final Tally tally = new Tally();
    private int waitingCount;
    private long readCount;
    private long byteCount;
    private long coldCount;

    Transmission(Session session, Inbox in, Outbox out, Reads reads) {
        this.session = session;
        this.in = in;
        this.out = out;
        this.reads = reads;
        export = session.export();
        requests = in.buffer();
    }

    static Transmission over(Arena arena, Wire wire, boolean copied, Inbox in, Session session) {
        Outbox out = new Outbox(arena, wire);
        Reads reads = copied
                ? new CopiedReads(arena, session.export(), out)
                : new MappedReads(session.export(), out, wire.isAtomic());
        return new Transmission(session, in, out, reads);
    }

    /** Serves until the client says that it is done. */
    void run() throws IOException {
        export.add(tally);
        try {
            boolean more = true;
            while (more) {
                while (more && in.available() >= Nbd.REQUEST_BYTES) {
                    more = next();
                }
                answerWaiting();
                out.flush();
                publish();
                if (more) {
                    in.require(in.available() + 1);
                }
            }
        } finally {
            publish();
            export.remove(tally);
        }
    }

    private void publish() {
        tally.set(readCount, byteCount, coldCount, out.failures(), out.lastFailure());
    }

    /** Handles a request; false if it is the last. */
    private boolean next() throws IOException {
        int at = in.position();
        if (requests.get(Nbd.INT, at) != Nbd.REQUEST_MAGIC) {
            throw Disconnect.because("a request with a wrong magic number");
        }
        int flags = Short.toUnsignedInt(requests.get(Nbd.SHORT, at + 4L));
        int type = Short.toUnsignedInt(requests.get(Nbd.SHORT, at + 6L));
        long cookie = requests.get(Nbd.LONG, at + 8L);
        long offset = requests.get(Nbd.LONG, at + 16L);
        long length = Integer.toUnsignedLong(requests.get(Nbd.INT, at + 24L));
        in.skip(Nbd.REQUEST_BYTES);
        switch (type) {
            case Nbd.CMD_READ -> read(at, flags, cookie, offset, length);
            case Nbd.CMD_DISC -> {
                return false;
            }
            case Nbd.CMD_WRITE -> {
                out.simple(cookie, Nbd.EPERM);
                discard(length);
            }
            case Nbd.CMD_TRIM, Nbd.CMD_WRITE_ZEROES -> out.simple(cookie, Nbd.EPERM);
            case Nbd.CMD_FLUSH -> out.simple(cookie, flags == 0 && offset == 0 && length == 0 ? 0 : Nbd.EINVAL);
            case Nbd.CMD_CACHE -> cache(flags, cookie, offset, length);
            case Nbd.CMD_BLOCK_STATUS -> blockStatus(flags, cookie, offset, length);
            default -> out.simple(cookie, Nbd.EINVAL);
        }
        return true;
    }

    private boolean isWithin(long offset, long length) {
        return length > 0 && offset >= 0 && length <= export.size() && offset <= export.size() - length;
    }

    private void read(int at, int flags, long cookie, long offset, long length) throws IOException {
        readCount++;
        int allowed = session.structured() ? Nbd.CMD_FLAG_DF : 0;
        if ((flags & ~allowed) != 0 || !isWithin(offset, length) || length > Nbd.MAX_PAYLOAD) {
            failRead(cookie, Nbd.EINVAL);
        } else if (reads.isReady(offset, (int) length)) {
            answer(flags, cookie, offset, (int) length);
        } else {
            waiting[waitingCount++] = at;
            coldCount++;
        }
    }

    private void answer(int flags, long cookie, long offset, int length) throws IOException {
        byteCount += length;
        out.about(offset);
        if (session.structured()) {
            reads.structured(cookie, (flags & Nbd.CMD_FLAG_DF) != 0, offset, length);
        } else {
            reads.simple(cookie, offset, length);
        }
    }

    private void failRead(long cookie, int error) throws IOException {
        if (session.structured()) {
            out.errorChunk(cookie, error);
        } else {
            out.simple(cookie, error);
        }
    }

    private void answerWaiting() throws IOException {
        for (int i = 0; i < waitingCount; i++) {
            out.flush(); // what is ready does not wait with it
            long at = waiting[i];
            int flags = requests.get(Nbd.SHORT, at + 4);
            long cookie = requests.get(Nbd.LONG, at + 8);
            long offset = requests.get(Nbd.LONG, at + 16);
            int length = requests.get(Nbd.INT, at + 24);
            if (reads.load(offset, length)) {
                answer(flags, cookie, offset, length);
            } else {
                out.about(offset);
                failRead(cookie, Nbd.EIO);
            }
        }
        waitingCount = 0;
    }

    /** Passes over the data of a write, for which the requests that wait have to leave the buffer. */
    private void discard(long length) throws IOException {
        if (length > 2L * Nbd.MAX_PAYLOAD) {
            throw Disconnect.because("a write of " + length + " bytes");
        }
        if (length > in.available()) {
            answerWaiting();
            out.flush();
        }
        in.discard(length);
    }

    private void cache(int flags, long cookie, long offset, long length) throws IOException {
        if (flags != 0 || !isWithin(offset, length)) {
            out.simple(cookie, Nbd.EINVAL);
            return;
        }
        export.prefetch(offset, length);
        out.simple(cookie, 0);
    }

    private void blockStatus(int flags, long cookie, long offset, long length) throws IOException {
        if (!session.structured()) {
            out.simple(cookie, Nbd.EINVAL);
            return;
        }
        if (!session.allocation() || (flags & ~Nbd.CMD_FLAG_REQ_ONE) != 0 || !isWithin(offset, length)) {
            out.errorChunk(cookie, Nbd.EINVAL);
            return;
        }
        AllocationMap map = export.allocation();
        int first = map.indexOf(offset);
        int last = (flags & Nbd.CMD_FLAG_REQ_ONE) != 0 ? first : map.indexOf(offset + length - 1);
        int count = Math.min(last - first + 1, MAX_EXTENTS);
        out.beginStructured(cookie);
        int at = out.chunk(Nbd.REPLY_TYPE_BLOCK_STATUS, 4 + 8 * count);
        MemorySegment chunk = out.headers();
        chunk.set(Nbd.INT, at, Session.ALLOCATION_CONTEXT);
        long from = offset;
        for (int i = 0; i < count; i++) {
            long to = Math.min(offset + length, map.end(first + i));
            chunk.set(Nbd.INT, at + 4 + 8L * i, (int) (to - from));
            chunk.set(Nbd.INT, at + 8 + 8L * i, map.isHole(first + i) ? Nbd.STATE_HOLE_ZERO : 0);
            from = to;
        }
        out.end();
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * What a client sent and nobody has looked at yet, in one native buffer.
 *
 * <p>Offsets stay valid until the next {@link #receive}, {@link #require} or {@link #discard}.
 */
final class Inbox {
    /** Bytes of the buffer: the most that {@link #require} can ask for. */
    static final int CAPACITY = 64 << 10;

    private final MemorySegment buffer;
    private Wire wire;
    private int head;
    private int tail;

    Inbox(Arena arena, Wire wire) {
        buffer = arena.allocate(CAPACITY, 8);
        this.wire = wire;
    }

    /** Insists that nothing is left to look at: what follows has to come over another wire. */
    void rejectPending() throws Disconnect {
        if (available() != 0) {
            throw Disconnect.because("data sent in the clear behind STARTTLS");
        }
    }

    /** Goes on with another wire. */
    void replaceWire(Wire next) {
        wire = next;
    }

    MemorySegment buffer() {
        return buffer;
    }

    /** Where the first byte lies that nobody has looked at. */
    int position() {
        return head;
    }

    int available() {
        return tail - head;
    }

    void skip(int bytes) {
        head += bytes;
    }

    /** Waits until there is more than now; false at the end of the stream. */
    boolean receive() throws IOException {
        if (head == tail) {
            head = tail = 0;
        } else if (head > 0) {
            MemorySegment.copy(buffer, head, buffer, 0, available());
            tail -= head;
            head = 0;
        }
        int n = wire.read(buffer, tail, CAPACITY - tail);
        tail += n;
        return n > 0;
    }

    /** Waits until {@code bytes} are there. */
    void require(int bytes) throws IOException {
        while (available() < bytes) {
            if (!receive()) {
                throw available() == 0 ? Disconnect.byPeer() : Disconnect.because("closed within a message");
            }
        }
    }

    /** Throws away the next {@code bytes}, however many, without keeping more than the buffer. */
    void discard(long bytes) throws IOException {
        for (long left = bytes; left > 0; ) {
            if (available() == 0) {
                require(1);
            }
            int n = (int) Math.min(left, available());
            head += n;
            left -= n;
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** A ring without a kernel: what is put in stays there until {@link #take}. For benchmarks of everything but the call. */
public final class PlainRing {
    private static final int SQ_HEAD = 0;
    private static final int SQ_TAIL = 64;
    private static final int CQ_HEAD = 128;
    private static final int CQ_TAIL = 192;
    private static final int CQES = 256;

    private final MemorySegment memory;
    private final Ring ring;

    /** @param entries a power of two */
    public PlainRing(int entries) {
        Arena arena = Arena.ofShared();
        int sqArray = CQES + 2 * entries * Cqe.BYTES;
        memory = arena.allocate(sqArray + 4L * entries, 64);
        MemorySegment params = arena.allocate(RingParams.BYTES, 8);
        params.set(JAVA_INT, RingParams.SQ_ENTRIES, entries);
        params.set(JAVA_INT, RingParams.CQ_ENTRIES, 2 * entries);
        params.set(JAVA_INT, RingParams.SQ_OFF + RingParams.SQ_HEAD, SQ_HEAD);
        params.set(JAVA_INT, RingParams.SQ_OFF + RingParams.SQ_TAIL, SQ_TAIL);
        params.set(JAVA_INT, RingParams.SQ_OFF + RingParams.SQ_ARRAY, sqArray);
        params.set(JAVA_INT, RingParams.CQ_OFF + RingParams.CQ_HEAD, CQ_HEAD);
        params.set(JAVA_INT, RingParams.CQ_OFF + RingParams.CQ_TAIL, CQ_TAIL);
        params.set(JAVA_INT, RingParams.CQ_OFF + RingParams.CQ_CQES, CQES);
        ring = new Ring(-1, arena, params, memory, arena.allocate((long) entries * Sqe.BYTES, 64));
    }

    /** The ring over this memory. */
    public Ring ring() {
        return ring;
    }

    /** Takes the {@code entries} oldest submissions, as a kernel would. */
    public void take(int entries) {
        memory.set(JAVA_INT, SQ_HEAD, memory.get(JAVA_INT, SQ_HEAD) + entries);
    }
}

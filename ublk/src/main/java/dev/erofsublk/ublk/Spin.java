// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.Ring;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Looks out for work for a while before its thread goes to sleep for it: to be woken takes longer than most requests.
 *
 * <p>In vain at most once in {@value #MOST_SKIPPED} waits where nothing comes in time: after each miss twice as many waits
 * as before go to sleep at once, until one is a hit. And it leaves off for as many where others want the processor, who may be the
 * very readers that it waits for. One thread's.
 */
final class Spin {
    private static final int MOST_SKIPPED = 1024;
    /** Between two looks at the clock: some microseconds on any processor. */
    private static final int STEPS = 32;
    /** Between two looks at who else wants the processor: 25 ms of single reads, some slices of the scheduler. */
    private static final int LOOK_AROUND = 256;
    /** As many preemptions in that time are another thread that has work, and not the housekeeping of the kernel. */
    private static final int CROWDED = 4;

    private final MemorySegment usage = Arena.ofAuto().allocate(Linux.USAGE_BYTES, Long.BYTES);
    private int skip;
    private int skipped;
    private int spins;
    private long preemptions;

    /** Returns when work is due, and at the latest after {@code nanos}. */
    void await(Ring ring, long nanos) {
        if (skipped < skip) {
            skipped++;
            return;
        }
        skipped = 0;
        if ((++spins & LOOK_AROUND - 1) == 0 && isCrowded()) {
            skip = MOST_SKIPPED;
            return;
        }
        long start = System.nanoTime();
        do {
            for (int i = 0; i < STEPS; i++) {
                if (ring.isWorkDue()) {
                    skip = 0;
                    return;
                }
                Thread.onSpinWait();
            }
        } while (System.nanoTime() - start < nanos);
        skip = Math.min(2 * skip + 1, MOST_SKIPPED);
    }

    private boolean isCrowded() {
        long before = preemptions;
        preemptions = Linux.preemptions(usage);
        return preemptions - before >= CROWDED;
    }
}

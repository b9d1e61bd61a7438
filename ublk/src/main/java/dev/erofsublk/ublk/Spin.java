// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.uring.Ring;

/**
 * Looks out for work for a while before its thread goes to sleep for it: to be woken takes longer than most requests.
 *
 * <p>In vain at most once in {@value #MOST_SKIPPED} waits where nothing comes in time: after each miss twice as many waits
 * as before go to sleep at once, until one is a hit. One thread's.
 */
final class Spin {
    private static final int MOST_SKIPPED = 1024;
    /** Between two looks at the clock: some microseconds on any processor. */
    private static final int STEPS = 32;

    private int skip;
    private int skipped;

    /** Returns when work is due, and at the latest after {@code nanos}. */
    void await(Ring ring, long nanos) {
        if (skipped < skip) {
            skipped++;
            return;
        }
        skipped = 0;
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
}

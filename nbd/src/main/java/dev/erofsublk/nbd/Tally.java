// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;

/**
 * What one connection has done so far: written by its thread alone, once for all the requests that it found waiting, and
 * read by anyone at any time. A reader may see one number newer than another, and never half of one.
 */
final class Tally {
    private static final VarHandle LONGS = MethodHandles.arrayElementVarHandle(long[].class);
    private static final int LINE = 16; // longs in two cache lines: the second is prefetched with the first
    private static final int READS = LINE;
    private static final int BYTES = LINE + 1;
    private static final int ERRORS = LINE + 2;
    private static final int ERROR_OFFSET = LINE + 3;
    private static final int COLD = LINE + 4;

    private final long[] values = new long[3 * LINE];

    /** Says how it stands: all numbers since the connection began. */
    void set(long reads, long bytes, long coldReads, long errors, long lastErrorOffset) {
        LONGS.setOpaque(values, READS, reads);
        LONGS.setOpaque(values, BYTES, bytes);
        LONGS.setOpaque(values, COLD, coldReads);
        LONGS.setOpaque(values, ERROR_OFFSET, lastErrorOffset);
        // Release pairs with the acquire in plus: whoever sees the count sees where the error was, or a later one.
        LONGS.setRelease(values, ERRORS, errors);
    }

    NbdCounters plus(NbdCounters sum) {
        long errors = (long) LONGS.getAcquire(values, ERRORS);
        return new NbdCounters(
                sum.reads() + get(READS),
                sum.bytes() + get(BYTES),
                sum.errors() + errors,
                errors > 0 ? get(ERROR_OFFSET) : sum.lastErrorOffset(),
                sum.coldReads() + get(COLD));
    }

    private long get(int index) {
        return (long) LONGS.getOpaque(values, index);
    }
}

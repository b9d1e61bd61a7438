// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import java.util.Arrays;
import java.util.BitSet;

/**
 * Which units of a device have been read, in the order in which each was read first.
 *
 * <p>Servers call {@link #touch} where {@link Residency} has sent them off the hot path, so that it costs nothing for a
 * request whose bytes are known to be there. That this misses nobody is theirs to see to: as long as an {@link
 * AddressSpace} has one of these, only a read makes a unit resident.
 *
 * <p>Thread-safe, by a lock. Memory is bounded: what would make more than {@value #MAX_RUNS} runs is not noted.
 */
public final class FirstTouches {
    /** Bytes of a unit of the device. */
    public static final int UNIT_BYTES = Residency.UNIT_BYTES;

    /** The most runs of units that follow each other, 2 MiB of memory. */
    public static final int MAX_RUNS = 1 << 18;

    private static final int COUNT_BITS = 16;

    /** The most units of one run. */
    public static final int MAX_COUNT = 1 << COUNT_BITS;

    private final BitSet touched = new BitSet();
    private long[] runs = new long[16];
    private int size;
    private long count;

    /** A run of {@code count} units, 1 to {@value #MAX_COUNT}, from unit {@code first} on, as one number. */
    public static long run(long first, int count) {
        return first << COUNT_BITS | (count - 1);
    }

    /** The first unit of a run. */
    public static long first(long run) {
        return run >>> COUNT_BITS;
    }

    /** How many units a run has. */
    public static int count(long run) {
        return (int) (run & MAX_COUNT - 1) + 1;
    }

    /** Bytes {@code [offset, offset + bytes)} of the device are read. */
    public synchronized void touch(long offset, long bytes) {
        add(offset >>> Residency.UNIT_SHIFT, (offset + bytes - 1) >>> Residency.UNIT_SHIFT);
    }

    /** Takes over what was noted before, by {@link #runs}. */
    public synchronized void addAll(long[] earlier) {
        for (long run : earlier) {
            add(first(run), first(run) + count(run) - 1);
        }
    }

    private void add(long first, long last) {
        for (long unit = first; unit <= Math.min(last, Integer.MAX_VALUE - 1); unit++) {
            if (!touched.get((int) unit) && append(unit)) {
                touched.set((int) unit);
                count++;
            }
        }
    }

    private boolean append(long unit) {
        if (size > 0) {
            long before = runs[size - 1];
            if (first(before) + count(before) == unit && count(before) < MAX_COUNT) {
                runs[size - 1]++;
                return true;
            }
        }
        if (size == MAX_RUNS) {
            return false;
        }
        if (size == runs.length) {
            runs = Arrays.copyOf(runs, 2 * size);
        }
        runs[size++] = run(unit, 1);
        return true;
    }

    /** How many units have been touched. */
    public synchronized long count() {
        return count;
    }

    /** All of them in their order, as {@link #run runs}. */
    public synchronized long[] runs() {
        return Arrays.copyOf(runs, size);
    }
}

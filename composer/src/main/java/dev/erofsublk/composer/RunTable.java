// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import java.util.Arrays;

/**
 * The runs of a device: ranges whose bytes lie one behind the other in memory ({@link AddressSpace}) or in a file
 * ({@link FileMap}).
 *
 * <pre>
 *   device   |   part 0   |   part 1   |   part 2   |  ...        2^partShift bytes each
 *   first    [ 0,           1,           1,           4, ... ]    the run in which the part begins
 *   runs     [ start, delta, mark | start, delta, mark | ... | size of the device ]
 * </pre>
 *
 * <p>A device of a million runs is looked up in by chance, so what counts is how many cache lines a lookup touches. A
 * binary search over all starts touches one for nearly each of its twenty steps. Here it is one of {@code first} and the
 * one or two where the run is: parts are as long as runs are on average or shorter, which leaves a step or two between
 * the run where a part begins and the one where the next does; and what there is to know of a run lies together. Where
 * runs crowd in few parts it is a binary search among those.
 *
 * <p>Memory: 24 bytes a run and at most 8 for its share of {@code first}. Immutable and thread-safe.
 */
final class RunTable {
    private static final int WORDS = 3;
    private static final int DELTA = 1;
    private static final int MARK = 2;

    private final long[] words;
    private final int[] first;
    private final int partShift;
    private final int runs;

    private RunTable(long[] words, int runs) {
        this.words = words;
        this.runs = runs;
        long size = words[runs * WORDS];
        partShift = runs == 1 ? Long.SIZE - 1 : Long.SIZE - Long.numberOfLeadingZeros((size - 1) / runs) - 1;
        first = new int[(int) ((size - 1) >>> partShift) + 2];
        int run = 0;
        for (int part = 0; part < first.length; part++) {
            while (run < runs - 1 && words[(run + 1) * WORDS] <= (long) part << partShift) {
                run++;
            }
            first[part] = run;
        }
    }

    int runs() {
        return runs;
    }

    /** The run that holds byte {@code offset} of the device, which is within {@code [0, size)}. */
    int run(long offset) {
        int part = (int) (offset >>> partShift);
        int low = first[part];
        int high = first[part + 1];
        while (low < high) {
            int middle = (low + high + 1) >>> 1;
            if (words[middle * WORDS] <= offset) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        return low;
    }

    /** The device offset behind the last byte of run {@code run}. */
    long end(int run) {
        return words[run * WORDS + WORDS];
    }

    /** Where the bytes of run {@code run} lie, its address or its offset in a file, minus where they are on the device. */
    long delta(int run) {
        return words[run * WORDS + DELTA];
    }

    /** What else the table's owner has to know of run {@code run}. */
    long mark(int run) {
        return words[run * WORDS + MARK];
    }

    /** Takes runs in ascending order. */
    static final class Builder {
        private long[] words;
        private int runs;

        /** @param expected runs, at most; more are taken too */
        Builder(int expected) {
            words = new long[Math.addExact(Math.multiplyExact(expected, WORDS), 1)];
        }

        /** The next run begins at {@code start}; one that is like the one before it in both continues it. */
        void add(long start, long delta, long mark) {
            int at = runs * WORDS;
            if (runs > 0 && words[at - WORDS + DELTA] == delta && words[at - WORDS + MARK] == mark) {
                return;
            }
            if (at + WORDS >= words.length) {
                words = Arrays.copyOf(words, Math.addExact(Math.multiplyExact(at, 2), WORDS + 1));
            }
            words[at] = start;
            words[at + DELTA] = delta;
            words[at + MARK] = mark;
            runs++;
        }

        /** @param size of the device, where the last run ends */
        RunTable build(long size) {
            int length = runs * WORDS + 1;
            long[] exact = words.length == length ? words : Arrays.copyOf(words, length);
            exact[runs * WORDS] = size;
            return new RunTable(exact, runs);
        }
    }
}

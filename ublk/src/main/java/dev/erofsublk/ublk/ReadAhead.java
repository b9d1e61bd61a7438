// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

/**
 * How far ahead of a reader to load, in units of residency: twice as far each time it is found to go on forward, and not
 * at all ahead of one that does not.
 *
 * <p>Of each window that is loaded, the first unit is its mark: whoever reads that has the next window loaded, and so
 * finds it loaded when he gets there. The page cache has a flag for this (PG_readahead in mm/readahead.c); here the mark
 * is a unit that is not called resident yet, so that a read of it takes a look.
 */
final class ReadAhead {
    static final int MOST_UNITS = 16;

    private long expected = -1;
    private long begin;
    private long end;
    private int window;

    /** Whether a reader of {@code unit} goes on where one has been before. */
    boolean expects(long unit) {
        return unit == expected || (unit < end && unit >= end - MOST_UNITS);
    }

    /** Whether {@code unit} is the first of the last window. */
    boolean isMark(long unit) {
        return unit == begin && begin < end;
    }

    /** Units {@code first} to {@code last} are read; {@link #from} and {@link #count} tell what to load ahead of that. */
    void reads(long first, long last) {
        boolean forward = expects(first);
        window = forward ? (int) Math.min(MOST_UNITS, 2 * Math.max(window, last - first + 1)) : 0;
        expected = last + 1;
        if (!forward) {
            end = 0;
        }
    }

    /** The first unit to load. */
    long from() {
        return Math.max(expected, end);
    }

    /** How many units to load, from {@link #from} on; 0 if there is no hurry. */
    int count() {
        return from() > expected + MOST_UNITS ? 0 : window;
    }

    /** {@code count} units from {@link #from} on are being loaded. */
    void loads(int count) {
        begin = from();
        end = begin + count;
    }
}

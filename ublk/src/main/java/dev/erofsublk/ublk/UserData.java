// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

/**
 * What a queue writes into its ring's entries to know their completions by: a kind in the upper half, and below it what
 * the kind needs. The commits of the data path are kind 0, so that theirs is the tag as it is.
 */
final class UserData {
    /** A fetch or commit; the lower half is its tag. */
    static final int COMMAND = 0;
    /** A tag's whole units have been brought in. */
    static final int POPULATED = 1;
    /** Exactly the bytes of a tag have been brought in, because its whole units could not be. */
    static final int POPULATED_EXACTLY = 2;
    /** Some units ahead of a reader have been brought in; see {@link #ahead}. */
    static final int AHEAD = 3;
    /** The inbox has something. */
    static final int INBOX = 4;
    /** The event that tells a queue to end has been raised. */
    static final int WAKE = 5;
    /** A read of a tag's bytes has failed or was short; see {@link #read}. */
    static final int READ = 6;
    /** What a tag's request asks for has been read into the page cache. */
    static final int CACHED = 7;
    /** The kernel did not take an advice; what follows it goes without. */
    static final int ADVISED = 8;

    private static final int KIND_SHIFT = 56;
    private static final int COUNT_SHIFT = 48;
    private static final long UNIT_MASK = (1L << COUNT_SHIFT) - 1;

    private UserData() {}

    static long of(int kind, int tag) {
        return (long) kind << KIND_SHIFT | tag;
    }

    static int kind(long userData) {
        return (int) (userData >>> KIND_SHIFT);
    }

    static int tag(long userData) {
        return (int) userData;
    }

    /** @param count 1 to 255 units from {@code unit} on */
    static long ahead(long unit, int count) {
        return (long) AHEAD << KIND_SHIFT | (long) count << COUNT_SHIFT | unit;
    }

    /** @param sectorsBefore how much of the tag's request lies before what is read, in units of 512 bytes, below 2^24 */
    static long read(int tag, int sectorsBefore) {
        return (long) READ << KIND_SHIFT | (long) sectorsBefore << Integer.SIZE | tag;
    }

    static int sectorsBefore(long read) {
        return (int) (read >>> Integer.SIZE) & 0xffffff;
    }

    static IllegalStateException unknown(long userData) {
        return new IllegalStateException("user data 0x" + Long.toHexString(userData));
    }

    static long unit(long ahead) {
        return ahead & UNIT_MASK;
    }

    static int count(long ahead) {
        return (int) (ahead >>> COUNT_SHIFT) & 0xff;
    }
}

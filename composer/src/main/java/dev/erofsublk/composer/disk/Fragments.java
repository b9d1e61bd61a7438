// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.disk;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import java.util.function.LongSupplier;

/**
 * How many extents a device may have: a fixed number, and as many as this process has memory for.
 *
 * <p>A disk in pieces is nothing wrong, and bitmaps of alternating bits ask for a hundred times their own size. A daemon
 * that ran out of memory over one such image would take all its other devices down with it; so the image is refused
 * before.
 */
public final class Fragments {
    /** The most that there may be, whatever memory there is. */
    public static final int MAX = 1 << 24;

    /**
     * Heap that an extent takes at most, from its laying to its being served: 20 bytes in a {@link FlatImage}, 32 in the
     * table of an address space, 8 for the place of its block, and their copies while arrays grow.
     */
    static final int BYTES_EACH = 80;

    /** Left for everything else, in bytes. */
    static final long RESERVE = 24 << 20;

    /** Extents that are laid between two looks at the memory, at least; so many are too few to matter. */
    static final int STEP = 1 << 16;

    private final String file;
    private final LongSupplier free;
    private final int most;
    private int looked = STEP;

    /** @param file the image's name for messages */
    public Fragments(String file) {
        this(file, Fragments::free, MAX);
    }

    /**
     * @param free tells the bytes of heap that are not taken
     * @param most extents, whatever memory there is
     */
    Fragments(String file, LongSupplier free, int most) {
        this.file = file;
        this.free = free;
        this.most = most;
    }

    private static long free() {
        Runtime runtime = Runtime.getRuntime();
        return runtime.maxMemory() - runtime.totalMemory() + runtime.freeMemory();
    }

    /**
     * Refuses a device of too many extents; to be called after each block, so that few can be laid unseen.
     *
     * @throws ImageException if there are more than {@link #MAX}, or memory for the next ones may be missing
     */
    public void bound(FlatImage.Builder out) throws ImageException {
        int count = out.extentCount();
        if (count >= looked) {
            look(count);
        }
    }

    private void look(int count) throws ImageException {
        long room = room(count);
        if (room < STEP) {
            System.gc(); // what is no longer used counts as taken until then
            room = room(count);
        }
        if (count > most) {
            throw new ImageException(file, "fragments", "more than " + most, "at most " + most + " separate extents");
        }
        if (room < STEP) {
            throw new ImageException(
                    file,
                    "fragments",
                    "more than " + count,
                    "no more separate extents than the heap of %d MiB has room for (java -Xmx)"
                            .formatted(Runtime.getRuntime().maxMemory() >> 20));
        }
        looked = (int) Math.min(most + 1L, count + Math.max(STEP, room / 2));
    }

    /** How many more there is memory for; those that are there have taken a quarter of theirs. */
    private long room(int count) {
        return (free.getAsLong() - RESERVE - (long) count * (BYTES_EACH - FlatImage.BYTES_PER_EXTENT)) / BYTES_EACH;
    }
}

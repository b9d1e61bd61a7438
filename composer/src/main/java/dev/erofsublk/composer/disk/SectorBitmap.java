// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.disk;

import java.io.IOException;
import java.util.BitSet;

/**
 * One bit per sector of a block: 1 means that the sector's bytes are in this file.
 *
 * <p>VHDX counts from the least significant bit of each byte, VHD from the most significant.
 */
public final class SectorBitmap {
    private final BitSet bits;

    private SectorBitmap(BitSet bits) {
        this.bits = bits;
    }

    /** The bits of a VHDX sector bitmap block. */
    public static SectorBitmap leastSignificantFirst(byte[] bytes) {
        return new SectorBitmap(BitSet.valueOf(bytes));
    }

    /** The bits of the bitmap in front of a VHD block. */
    public static SectorBitmap mostSignificantFirst(byte[] bytes) {
        byte[] turned = new byte[bytes.length];
        for (int i = 0; i < bytes.length; i++) {
            turned[i] = (byte) (Integer.reverse(bytes[i]) >>> 24);
        }
        return new SectorBitmap(BitSet.valueOf(turned));
    }

    /** What is done with a run of sectors. */
    @FunctionalInterface
    public interface Runs {
        /**
         * Takes the next run.
         *
         * @param here whether the sectors are in this file
         * @param first the first of them, counted from the block's start
         * @param sectors how many, at least one
         */
        void run(boolean here, int first, int sectors) throws IOException;
    }

    /** Hands over sectors 0 to {@code sectors} in order, as runs of equal bits. */
    public void runs(int sectors, Runs to) throws IOException {
        int at = 0;
        while (at < sectors) {
            boolean here = bits.get(at);
            int next = here ? bits.nextClearBit(at) : bits.nextSetBit(at);
            int end = next < 0 ? sectors : Math.min(next, sectors);
            to.run(here, at, end - at);
            at = end;
        }
    }
}

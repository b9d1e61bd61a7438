// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.cache;

import dev.erofsublk.uring.Linux;

/**
 * How decoded bytes are cut into pieces, the atoms of decoding: a chunk of RAFS, a grain of VMDK.
 *
 * <pre>
 *   start(0) = 0   start(1)      start(2)           start(count()) = size
 *   |   piece 0    |   piece 1   |     piece 2      |
 * </pre>
 *
 * <p>Pieces and not equal units, because formats compress ranges of any length: a unit that holds a hundred small
 * chunks would decode all of them to serve 4 KiB, and a chunk of many units would be decoded once for each.
 *
 * <p>Immutable and thread-safe. Starts ascend strictly and are multiples of 4096, so that no page of a smaller page size
 * holds bytes of two pieces.
 */
public interface Pieces {
    /** Every piece starts at a multiple of this. */
    int ALIGNMENT = 4096;

    /** How many there are; at least 1. */
    int count();

    /** The offset of the first byte of {@code piece}, 0 to {@code count()}; the last is the size of it all. */
    long start(int piece);

    /** A power of two, and of every piece's start a divisor. */
    default int alignment() {
        return ALIGNMENT;
    }

    /** Bytes of all pieces. */
    default long size() {
        return start(count());
    }

    /** Bytes of {@code piece}. */
    default int length(int piece) {
        return Math.toIntExact(start(piece + 1) - start(piece));
    }

    /** The piece that holds the byte at {@code offset}, which is within {@code [0, size)}; O(log n). */
    default int indexOf(long offset) {
        int low = 0;
        int high = count() - 1;
        while (low < high) {
            int middle = (low + high + 1) >>> 1;
            if (start(middle) <= offset) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        return low;
    }

    /** The granule of presence that {@link dev.erofsublk.composer.Decoded#unit()} reports for these. */
    default int unit() {
        return Math.max(alignment(), Linux.PAGE_SIZE);
    }

    /**
     * Pieces of one length; only the last may be shorter.
     *
     * @param size bytes of all pieces, positive
     * @param length bytes of a piece, a power of two and at least {@link #ALIGNMENT}
     */
    static Pieces uniform(long size, int length) {
        if (size <= 0 || length < ALIGNMENT || Integer.bitCount(length) != 1) {
            throw new IllegalArgumentException(size + " bytes in pieces of " + length);
        }
        int shift = Integer.numberOfTrailingZeros(length);
        int count = Math.toIntExact(((size - 1) >>> shift) + 1);
        return new Pieces() {
            @Override
            public int count() {
                return count;
            }

            @Override
            public long start(int piece) {
                return piece == count ? size : (long) piece << shift;
            }

            @Override
            public int alignment() {
                return length;
            }

            @Override
            public int indexOf(long offset) {
                return (int) (offset >>> shift);
            }
        };
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.disk;

import dev.erofsublk.composer.ImageException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;

/**
 * Which bytes of a file its structures claim, to prove that no two claim the same: a block that lies over a header, the
 * log or another block is the mark of a damaged allocation table, and would serve foreign bytes.
 *
 * <p>Named structures are few; blocks are many and all of one length, so 8 bytes are kept for each.
 */
public final class Claims {
    private final String file;
    private final long blockLength;
    private final List<Claim> structures = new ArrayList<>();
    private long[] blocks = new long[64];
    private int count;

    private record Claim(String name, long start, long end) {}

    /**
     * @param file the file's name for messages
     * @param blockLength bytes that each block takes in the file
     */
    public Claims(String file, long blockLength) {
        this.file = file;
        this.blockLength = blockLength;
    }

    /** Claims {@code length} bytes from {@code start} for the structure {@code name}; none if the length is 0. */
    public void structure(String name, long start, long length) {
        if (length > 0) {
            structures.add(new Claim(name, start, Math.addExact(start, length)));
        }
    }

    /** Claims one block. */
    public void block(long start) {
        if (count == blocks.length) {
            blocks = Arrays.copyOf(blocks, Math.multiplyExact(count, 2));
        }
        blocks[count++] = start;
    }

    /** Blocks claimed so far. */
    public int blocks() {
        return count;
    }

    /**
     * Proves that all claims are apart; O(n log n).
     *
     * @throws ImageException naming the two that are not
     */
    public void check() throws ImageException {
        Arrays.sort(blocks, 0, count);
        for (int i = 1; i < count; i++) {
            if (blocks[i] - blocks[i - 1] < blockLength) {
                throw overlap("block at byte " + blocks[i], "the block at byte " + blocks[i - 1]);
            }
        }
        structures.sort(Comparator.comparingLong(Claim::start));
        for (int i = 0; i < structures.size(); i++) {
            Claim claim = structures.get(i);
            if (i > 0 && claim.start < structures.get(i - 1).end) {
                throw overlap(claim.name + " at byte " + claim.start, structures.get(i - 1).name);
            }
            // The first block that ends behind the structure's start is the only one to look at.
            int at = Arrays.binarySearch(blocks, 0, count, claim.start - blockLength + 1);
            int next = at >= 0 ? at : -at - 1;
            if (next < count && blocks[next] < claim.end) {
                throw overlap("block at byte " + blocks[next], claim.name);
            }
        }
    }

    private ImageException overlap(String one, String other) {
        return new ImageException(file, "layout", one + " over " + other, "structures that do not overlap");
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.verity;

import java.util.ArrayList;
import java.util.List;

/**
 * Where the blocks of a dm-verity hash tree are: format 1, sha256, hash blocks of 4096 bytes, no superblock.
 *
 * <pre>
 *   0          dataBytes  treeOffset                                      end
 *   |  data blocks  | 0  | root block | level n-2 ... | level 0 (digests of data) |
 * </pre>
 *
 * <p>The highest level comes first, as {@code veritysetup} writes it (cryptsetup's lib/verity/verity_hash.c) and the
 * kernel reads it (Documentation/admin-guide/device-mapper/verity.rst). A block holds 128 digests.
 *
 * @param dataBlockSize 512 or 4096: not more than the logical blocks of the file system on top
 * @param dataBlocks how many there are, at least 1
 * @param treeOffset first byte of the tree on the device, a multiple of 4096
 * @param levels from level 0, which has the digests of data, upwards; none if one data block is all there is
 */
public record VerityGeometry(int dataBlockSize, long dataBlocks, long treeOffset, List<Level> levels) {
    public static final int HASH_BLOCK = 4096;
    public static final int DIGEST = 32;
    static final int FAN_OUT = HASH_BLOCK / DIGEST;

    /**
     * A level of the tree.
     *
     * @param offset first byte, from the tree's first on
     * @param blocks of 4096 bytes
     */
    public record Level(long offset, long blocks) {}

    /**
     * The tree of a device.
     *
     * @param deviceBytes bytes of data, which the last block may exceed: the rest of it is zeros
     */
    public static VerityGeometry of(long deviceBytes, int dataBlockSize) {
        if (dataBlockSize != 512 && dataBlockSize != HASH_BLOCK) {
            throw new IllegalArgumentException("data blocks of " + dataBlockSize + " bytes");
        }
        long dataBlocks = (deviceBytes + dataBlockSize - 1) / dataBlockSize;
        List<Long> sizes = new ArrayList<>();
        for (long below = dataBlocks; below > 1; ) {
            below = (below + FAN_OUT - 1) / FAN_OUT;
            sizes.add(below);
        }
        Level[] levels = new Level[sizes.size()];
        long offset = 0;
        for (int level = sizes.size(); level-- > 0; ) {
            levels[level] = new Level(offset, sizes.get(level));
            offset += sizes.get(level) * HASH_BLOCK;
        }
        long dataBytes = dataBlocks * dataBlockSize;
        return new VerityGeometry(
                dataBlockSize, dataBlocks, (dataBytes + HASH_BLOCK - 1) & -HASH_BLOCK, List.of(levels));
    }

    /** Bytes of the tree, a multiple of 4096. */
    public long treeBytes() {
        return levels.stream().mapToLong(Level::blocks).sum() * HASH_BLOCK;
    }
}

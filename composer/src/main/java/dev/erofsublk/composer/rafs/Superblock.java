// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_SHORT_UNALIGNED;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * The EROFS superblock at 1024 of a bootstrap, as far as composing needs it, and the RAFS extension behind it
 * (facts/erofs.md §1.1, §2.3).
 *
 * @param blockBits log2 of the block size
 * @param slots device slots, one for each blob
 * @param slotOffset where the first one lies
 * @param hasChecksum whether a changed slot needs another checksum
 * @param blobTableOffset extension: where the blob table lies
 * @param blobTableSize its bytes
 * @param chunkTableOffset extension: where the digests of the chunks lie
 * @param chunkTableSize its bytes
 */
record Superblock(
        int blockBits,
        int slots,
        long slotOffset,
        boolean hasChecksum,
        long blobTableOffset,
        long blobTableSize,
        long chunkTableOffset,
        long chunkTableSize) {
    static final int OFFSET = 1024;
    static final int BYTES = 128;
    static final int SLOT_BYTES = 128;

    private static final int EXTENSION = OFFSET + BYTES;
    private static final int EXTENSION_BYTES = 256;
    private static final int MAGIC = 0xE0F5E1E2;
    private static final int COMPAT_CHECKSUM = 1;
    private static final int COMPAT_RAFS_V6 = 0x4000_0000;
    private static final int INCOMPAT_DEVICE_TABLE = 8;
    private static final int INCOMPAT_48BIT = 0x80;

    /** Whether a bootstrap of RAFS v6 begins at byte {@code start} of {@code file}. */
    static boolean isAt(Blob file, long start) throws IOException {
        if (file.size() - start < EXTENSION + EXTENSION_BYTES) {
            return false;
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment head = arena.allocate(BYTES, 8);
            file.read(start + OFFSET, head);
            return head.get(JAVA_INT_UNALIGNED, 0) == MAGIC
                    && (head.get(JAVA_INT_UNALIGNED, 8) & COMPAT_RAFS_V6) != 0;
        }
    }

    static Superblock read(Bootstrap bootstrap) throws IOException {
        String file = bootstrap.name();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment sb = bootstrap.read("superblock", OFFSET, BYTES + EXTENSION_BYTES, arena);
            int magic = sb.get(JAVA_INT_UNALIGNED, 0);
            if (magic != MAGIC) {
                throw new ImageException(file, "superblock.magic", "0x%08x".formatted(magic), "0xe0f5e1e2");
            }
            int compat = sb.get(JAVA_INT_UNALIGNED, 8);
            if ((compat & COMPAT_RAFS_V6) == 0) {
                throw new ImageException(
                        file, "superblock.feature_compat", "0x%08x".formatted(compat), "bit 0x40000000 (RAFS v6)");
            }
            int bits = sb.get(JAVA_BYTE, 12);
            if (bits != 9 && bits != 12) {
                throw new ImageException(file, "superblock.blkszbits", bits, "12, or 9 in tarfs mode");
            }
            int incompat = sb.get(JAVA_INT_UNALIGNED, 80);
            int slots = Short.toUnsignedInt(sb.get(JAVA_SHORT_UNALIGNED, 86));
            if ((incompat & INCOMPAT_DEVICE_TABLE) == 0 && slots != 0 || (incompat & INCOMPAT_48BIT) != 0) {
                throw new ImageException(
                        file,
                        "superblock.feature_incompat",
                        "0x%08x".formatted(incompat),
                        "bit 0x8 (device table) and not bit 0x80 (48 bits), as Nydus writes");
            }
            int ext = BYTES;
            return new Superblock(
                    bits,
                    slots,
                    (long) Short.toUnsignedInt(sb.get(JAVA_SHORT_UNALIGNED, 88)) * SLOT_BYTES,
                    (compat & COMPAT_CHECKSUM) != 0,
                    sb.get(JAVA_LONG_UNALIGNED, ext + 8),
                    Integer.toUnsignedLong(sb.get(JAVA_INT_UNALIGNED, ext + 16)),
                    sb.get(JAVA_LONG_UNALIGNED, ext + 24),
                    sb.get(JAVA_LONG_UNALIGNED, ext + 32));
        }
    }

    int blockSize() {
        return 1 << blockBits;
    }
}

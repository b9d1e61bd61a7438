// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;

import dev.erofsublk.composer.erofs.Superblock;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * What RAFS v6 has behind the EROFS superblock, 256 bytes, little-endian (rafs/src/metadata/layout/v6.rs,
 * {@code RafsV6SuperBlockExt}): 0 flags u64 | 8 blob_table_off u64 | 16 blob_table_size u32 | 20 chunk_size u32 |
 * 24 chunk_table_off u64 | 32 chunk_table_size u64 | 40 prefetch_off u64 | 48 prefetch_size u32.
 *
 * @param chunkTableOffset where the digests of chunks lie, 80 bytes each
 */
record Extension(
        long flags,
        long blobTableOffset,
        long blobTableSize,
        int chunkSize,
        long chunkTableOffset,
        long chunkTableSize) {
    private static final int OFFSET = Superblock.OFFSET + Superblock.BYTES;
    private static final int BYTES = 256;

    static Extension read(Bootstrap bootstrap) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment ext = bootstrap.read("extended superblock", OFFSET, BYTES, arena);
            return new Extension(
                    ext.get(JAVA_LONG_UNALIGNED, 0),
                    ext.get(JAVA_LONG_UNALIGNED, 8),
                    Integer.toUnsignedLong(ext.get(JAVA_INT_UNALIGNED, 16)),
                    ext.get(JAVA_INT_UNALIGNED, 20),
                    ext.get(JAVA_LONG_UNALIGNED, 24),
                    ext.get(JAVA_LONG_UNALIGNED, 32));
        }
    }
}

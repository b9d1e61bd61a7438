// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/**
 * The digests that the decoded chunks of a blob must have.
 *
 * <p>They stand in the chunk table of the bootstrap, for the chunks that its files use, and in many blobs behind the
 * chunk information ({@code blob.digest}: 32 bytes a chunk). The bootstrap's count first: it is what the user asked to
 * serve. Entries of the bootstrap's table are 80 bytes (rafs/src/metadata/layout/v5.rs, {@code RafsV5ChunkInfo}):
 * 0 digest[32] | 32 blob_index u32 | 36 flags | 40 csize u32 | 44 usize u32 | 48 coffset u64 | 56 uoffset u64 |
 * 64 file_offset u64 | 72 index u32 | 76 crc32 u32.
 *
 * <p>Immutable once filled, and thread-safe for as long as its memory lives.
 */
final class ChunkDigests {
    static final int ENTRY_BYTES = 80;

    private final MemorySegment digests; // all zeros: none

    /** No digests yet for {@code count} chunks. */
    ChunkDigests(int count, Arena memory) {
        digests = memory.allocate((long) Digester.BYTES * count, 8);
    }

    /** Takes those that a blob file carries itself, if it does. */
    void readInlined(Blob meta, Toc.@Nullable Entry entry) throws IOException {
        if (entry == null) {
            return;
        }
        if (entry.compressor() != Compressor.NONE
                || entry.stored() != entry.size()
                || entry.size() != digests.byteSize()) {
            throw new ImageException(
                    meta.name(),
                    "size of blob.digest",
                    entry.size() + " (" + entry.compressor() + ", stored in " + entry.stored() + ")",
                    digests.byteSize() + ", not compressed");
        }
        meta.read(entry.offset(), digests);
        String found = Toc.hex(Digester.SHA256.digest(digests));
        if (entry.digest() != null && !found.equals(entry.digest())) {
            throw new ImageException(meta.name(), "sha256 of blob.digest", found, entry.digest());
        }
    }

    /** The blob of an entry of the bootstrap's chunk table, unsigned. */
    static long blobIndex(MemorySegment entry) {
        return Integer.toUnsignedLong(entry.get(JAVA_INT_UNALIGNED, 32));
    }

    /** Takes the digest of one entry of the bootstrap's chunk table. */
    void add(String bootstrap, MemorySegment entry, ChunkTable chunks) throws ImageException {
        long chunk = Integer.toUnsignedLong(entry.get(JAVA_INT_UNALIGNED, 72));
        if (chunk >= chunks.count()) {
            throw new ImageException(bootstrap, "chunk table index", chunk, "less than " + chunks.count());
        }
        int length = entry.get(JAVA_INT_UNALIGNED, 44);
        if (length != chunks.decodedLength((int) chunk)) {
            throw new ImageException(
                    bootstrap,
                    "chunk table size of chunk " + chunk,
                    Integer.toUnsignedLong(length),
                    chunks.decodedLength((int) chunk) + ", as in the blob");
        }
        MemorySegment.copy(entry, 0, digests, chunk * Digester.BYTES, Digester.BYTES);
    }

    /** The digest of {@code chunk}, or null if none is known. */
    byte @Nullable [] of(int chunk) {
        long at = (long) chunk * Digester.BYTES;
        return isKnown(at) ? digests.asSlice(at, Digester.BYTES).toArray(JAVA_BYTE) : null;
    }

    private boolean isKnown(long at) {
        return (digests.get(JAVA_LONG, at)
                        | digests.get(JAVA_LONG, at + 8)
                        | digests.get(JAVA_LONG, at + 16)
                        | digests.get(JAVA_LONG, at + 24))
                != 0;
    }

    /** How many chunks have one. */
    int count() {
        int count = 0;
        for (long at = 0; at < digests.byteSize(); at += Digester.BYTES) {
            count += isKnown(at) ? 1 : 0;
        }
        return count;
    }

    /** All of them in one, for the identity of the decoded bytes. */
    byte[] identity() {
        return Digester.SHA256.digest(digests);
    }
}

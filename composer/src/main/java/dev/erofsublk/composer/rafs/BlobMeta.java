// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/**
 * What a blob file says of its chunks: the chunk table, behind it the contexts, and behind both, decoded apart, a header.
 *
 * <pre>
 *   ci_offset                     + ci_compressed_size     + 4096
 *   | chunks, contexts, dictionaries | header               |      of an encrypted blob, both are encrypted
 *
 *   header (storage/src/meta/mod.rs): 0 magic 0xB10BB10B | 4 features | 8 ci_compressor | 12 entries | 16 ci_offset |
 *     24 ci_compressed_size | 32 ci_uncompressed_size | 40 contexts offset | 48 contexts and dictionaries size |
 *     56 contexts count u32 | 4092 magic
 * </pre>
 *
 * <p>The table lies in native memory of an arena of the caller's, because it may have 16 million entries.
 *
 * @param chunks checked against the blob
 * @param contexts checked and indexed
 */
record BlobMeta(ChunkTable chunks, Contexts contexts) {
    private static final int HEADER_BYTES = 4096;
    private static final int MAGIC = 0xB10BB10B;
    private static final int TAR_HEADER = 512;

    /** No table that a builder writes shrinks by more than this, and none may claim to. */
    private static final long MAX_RATIO = 1024;

    private static final long MIN_EXPANSION = 1 << 20;

    /** What {@code stored} bytes may claim to decode to, so that memory stays in proportion to the file. */
    static long expansionLimit(long stored) {
        return MIN_EXPANSION + MAX_RATIO * stored;
    }

    /**
     * Reads and checks the table of one blob.
     *
     * @param meta the file that holds it
     * @param data the file that holds the chunks; the same unless the blob is {@link Feature#SEPARATE}
     * @param toc the table of contents of {@code meta}, if it has one
     * @param memory where the table is to live
     */
    static BlobMeta read(BlobEntry entry, Blob meta, Blob data, @Nullable Toc toc, Arena memory) throws IOException {
        try (Arena scratch = Arena.ofConfined()) {
            MemorySegment stored = stored(entry, meta, scratch);
            MemorySegment table = decode(entry, meta, stored.asSlice(0, entry.ciCompressedSize()), memory);
            MemorySegment header = decrypt(entry, meta, stored.asSlice(entry.ciCompressedSize()));
            if (toc != null) {
                checkDigest(meta, toc.find(Toc.CHUNK_TABLE), table);
                checkDigest(meta, toc.find(Toc.CHUNK_TABLE_HEADER), header);
            }
            Header h = new Header(entry, meta.name(), header);
            h.check();
            long encodedSize = encodedSize(entry, data);
            ChunkTable chunks = ChunkTable.of(
                    table,
                    entry.has(Feature.CHUNK_INFO_V2),
                    entry.chunkCount(),
                    RafsImage.alignUp(entry.uncompressedSize(), ChunkTable.ALIGNMENT));
            Contexts contexts = h.contexts(table);
            contexts.check(meta.name(), encodedSize);
            chunks.check(meta.name(), encodedSize, entry, contexts);
            contexts.index(chunks);
            return new BlobMeta(chunks, contexts);
        }
    }

    private static MemorySegment stored(BlobEntry entry, Blob meta, Arena scratch) throws IOException {
        long bytes = entry.ciCompressedSize() + HEADER_BYTES;
        if (bytes > meta.size() || entry.ciOffset() > meta.size() - bytes) {
            throw new ImageException(
                    meta.name(),
                    "size",
                    meta.size() + " bytes",
                    "a chunk table and its header of " + bytes + " bytes at " + entry.ciOffset());
        }
        if (entry.chunkCount() == 0) {
            throw entry.refusal("chunk_count", 0, "at least 1 for " + entry.uncompressedSize() + " bytes");
        }
        MemorySegment stored = scratch.allocate(bytes, 16);
        meta.read(entry.ciOffset(), stored);
        return stored;
    }

    private static MemorySegment decode(BlobEntry entry, Blob meta, MemorySegment stored, Arena memory)
            throws ImageException {
        long size = entry.ciUncompressedSize();
        if (size > expansionLimit(stored.byteSize())) {
            throw entry.refusal("ci_uncompressed_size", size, "at most " + expansionLimit(stored.byteSize()));
        }
        MemorySegment plain = decrypt(entry, meta, stored);
        MemorySegment table = memory.allocate(Math.max(size, 1), 8).asSlice(0, size);
        try {
            entry.ciCompressor().decompress(plain, table);
            return table;
        } catch (MalformedException e) {
            throw refusal(meta, "chunk table at " + entry.ciOffset(), e, "a chunk table of " + size + " bytes");
        }
    }

    private static MemorySegment decrypt(BlobEntry entry, Blob meta, MemorySegment stored) throws ImageException {
        if (!entry.encrypted()) {
            return stored;
        }
        try {
            return entry.cipher().decrypt(stored);
        } catch (MalformedException e) {
            throw refusal(meta, "encrypted chunk table", e, "aes-128-xts data");
        }
    }

    private static ImageException refusal(Blob meta, String field, MalformedException e, String expected) {
        return new ImageException(meta.name(), field, String.valueOf(e.getMessage()), expected);
    }

    private static void checkDigest(Blob meta, Toc.@Nullable Entry entry, MemorySegment content) throws ImageException {
        if (entry == null || entry.digest() == null) {
            return;
        }
        String found = Toc.hex(Digester.SHA256.digest(content));
        if (!found.equals(entry.digest())) {
            throw new ImageException(meta.name(), "sha256 of " + entry.name(), found, entry.digest());
        }
    }

    /** Bytes of the data file that chunks may lie in. */
    private static long encodedSize(BlobEntry entry, Blob data) throws ImageException {
        if (data.size() < entry.compressedSize()) {
            throw new ImageException(
                    data.name(),
                    "size",
                    data.size() + " bytes",
                    entry.compressedSize() + " bytes, the blob's compressed_size");
        }
        if (entry.has(Feature.SEPARATE)) {
            return entry.compressedSize();
        }
        long end = entry.ciOffset() - (entry.has(Feature.HAS_TAR_HEADER) ? TAR_HEADER : 0);
        if (end < 0) {
            throw entry.refusal("ci_offset", entry.ciOffset(), "at least " + TAR_HEADER + ", for a tar header");
        }
        return end;
    }

    private record Header(BlobEntry entry, String file, MemorySegment bytes) {
        private long u32(int at) {
            return Integer.toUnsignedLong(bytes.get(JAVA_INT_UNALIGNED, at));
        }

        private long u64(int at) {
            return bytes.get(JAVA_LONG_UNALIGNED, at);
        }

        private void check() throws ImageException {
            same("magic", "0x%x".formatted(u32(0)), "0x%x".formatted(Integer.toUnsignedLong(MAGIC)));
            same("second magic", "0x%x".formatted(u32(4092)), "0x%x".formatted(Integer.toUnsignedLong(MAGIC)));
            same("ci_offset", u64(16), entry.ciOffset());
            same("ci_compressed_size", u64(24), entry.ciCompressedSize());
            same("ci_uncompressed_size", u64(32), entry.ciUncompressedSize());
            if (entry.has(Feature.CAP_TAR_TOC)) { // older Nydus: another order, and flags of another meaning
                same("features", layout((int) u32(4)), layout(entry.features()));
                same("ci_compressor", u32(8), (long) entry.ciCompressor().code);
                same("entries", u32(12), (long) entry.chunkCount());
            }
            long bytes = (long) entry.chunkCount()
                    * (entry.has(Feature.CHUNK_INFO_V2) ? ChunkTable.V2_BYTES : ChunkTable.V1_BYTES);
            boolean more = hasContexts();
            if (more && !entry.has(Feature.CHUNK_INFO_V2)) {
                throw entry.refusal("features", Feature.names(entry.features()), "CHUNK_INFO_V2 with ZRAN or BATCH");
            }
            if (more ? entry.ciUncompressedSize() < bytes : entry.ciUncompressedSize() != bytes) {
                throw entry.refusal(
                        "ci_uncompressed_size",
                        entry.ciUncompressedSize(),
                        bytes + " for " + entry.chunkCount() + " chunks");
            }
        }

        private static java.util.List<String> layout(int features) {
            return Feature.names(features & Feature.LAYOUT);
        }

        private boolean hasContexts() {
            return entry.has(Feature.ZRAN) || entry.has(Feature.BATCH);
        }

        private <T> void same(String field, T found, T expected) throws ImageException {
            if (!found.equals(expected)) {
                throw new ImageException(file, "chunk table header " + field, found, expected.toString());
            }
        }

        private Contexts contexts(MemorySegment table) throws ImageException {
            if (!hasContexts()) {
                return Contexts.none();
            }
            if (entry.has(Feature.ZRAN) && entry.has(Feature.BATCH)) {
                throw entry.refusal("features", Feature.names(entry.features()), "not both ZRAN and BATCH");
            }
            long offset = u64(40);
            long size = u64(48);
            long count = u32(56);
            long chunks = (long) entry.chunkCount() * ChunkTable.V2_BYTES;
            if (offset < chunks || offset > table.byteSize() || size < 0 || size > table.byteSize() - offset) {
                throw new ImageException(
                        file,
                        "chunk table header contexts range",
                        "[" + Long.toUnsignedString(offset) + ", +" + Long.toUnsignedString(size) + ")",
                        "behind the chunks, within " + table.byteSize());
            }
            if (count > size / Contexts.BYTES) {
                throw new ImageException(
                        file, "chunk table header contexts count", count, "at most " + size / Contexts.BYTES);
            }
            return new Contexts(entry.has(Feature.ZRAN), table.asSlice(offset, size), (int) count);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.cache.Pieces;
import java.lang.foreign.MemorySegment;

/**
 * Where each chunk of a blob lies, encoded and decoded; read in place from the table as stored.
 *
 * <pre>
 *   V1, 16 bytes (storage/src/meta/chunk_info_v1.rs)
 *     u64 decoded:  63..44 low 20 bits of size-1 | 43..12 offset, a multiple of 4096 | 11..8 high 4 bits of size-1
 *     u64 encoded:  63..44 low 20 bits of size-1 | 43..40 high 4 bits of size-1      | 39..0 offset
 *   V2, 24 bytes (storage/src/meta/chunk_info_v2.rs)
 *     u64 decoded:  63..56 flags | 55..32 size-1 | 31..0 offset / 4096
 *     u64 encoded:  63..40 size  | 39..0 offset
 *     u64 data:     63..32 index of the context  | 31..0 offset in the context's bytes, or CRC32C
 * </pre>
 *
 * <p>Chunks follow each other in the decoded space, each starting at the next multiple of 4096, so they are also the
 * {@link Pieces} of the blob's cache. Immutable and thread-safe for as long as its memory lives.
 */
abstract sealed class ChunkTable implements Pieces {
    static final int V1_BYTES = 16;
    static final int V2_BYTES = 24;

    final MemorySegment table;
    private final int entryBytes;
    private final int count;
    private final long size;

    private ChunkTable(MemorySegment table, int entryBytes, int count, long size) {
        this.table = table;
        this.entryBytes = entryBytes;
        this.count = count;
        this.size = size;
    }

    /**
     * @param table at least {@code count} entries
     * @param decodedSize bytes of the decoded blob, rounded up to 4096
     */
    static ChunkTable of(MemorySegment table, boolean v2, int count, long decodedSize) {
        return v2 ? new V2(table, count, decodedSize) : new V1(table, count, decodedSize);
    }

    long word(int chunk, int at) {
        return table.get(JAVA_LONG_UNALIGNED, (long) chunk * entryBytes + at);
    }

    @Override
    public final int count() {
        return count;
    }

    @Override
    public final long start(int chunk) {
        return chunk == count ? size : offset(chunk);
    }

    /** The first byte of {@code chunk} among the decoded ones. */
    abstract long offset(int chunk);

    /** Bytes of {@code chunk} decoded, 1 to 16 MiB; the piece may be longer, by zeros. */
    abstract int decodedLength(int chunk);

    abstract long encodedOffset(int chunk);

    /** Bytes of {@code chunk} encoded; 0 for one of a batch, whose context has the length. */
    abstract int encodedLength(int chunk);

    abstract boolean isCompressed(int chunk);

    abstract boolean isEncrypted(int chunk);

    abstract boolean isZran(int chunk);

    abstract boolean isBatch(int chunk);

    /** Whether {@link #contextOffset} is a CRC32C of the decoded bytes. */
    abstract boolean hasCrc(int chunk);

    /** Flags that are not known, 0 if none. */
    abstract int unknownFlags(int chunk);

    /** The index, unsigned, of the batch or stretch that holds {@code chunk}. */
    abstract long context(int chunk);

    /** The offset, unsigned, of the chunk in the decoded bytes of its context; or the CRC. */
    abstract long contextOffset(int chunk);

    /**
     * Checks every chunk: they cover the decoded space without gap or overlap, and lie within the encoded one.
     *
     * @param blob the file of the table, for messages
     * @param encodedSize bytes of the file that may hold chunks
     * @param entry tells which features chunks may use
     * @param contexts what batches or stretches there are
     */
    final void check(String blob, long encodedSize, BlobEntry entry, Contexts contexts) throws ImageException {
        long end = 0;
        for (int i = 0; i < count; i++) {
            if (offset(i) != end) {
                throw refusal(blob, i, "uncompressed offset", offset(i), end + ", where the chunk before it ends");
            }
            end = Math.addExact(end, (decodedLength(i) + (long) ALIGNMENT - 1) & -ALIGNMENT);
            if (end > size) {
                throw refusal(blob, i, "uncompressed end", end, "at most " + size + ", the blob's uncompressed_size");
            }
            checkEncoded(blob, i, encodedSize, entry, contexts);
        }
        if (end != size) {
            throw refusal(blob, count - 1, "uncompressed end", end, size + ", the blob's uncompressed_size");
        }
    }

    private void checkEncoded(String blob, int i, long encodedSize, BlobEntry entry, Contexts contexts)
            throws ImageException {
        if (unknownFlags(i) != 0) {
            throw refusal(blob, i, "flags", "0x%x".formatted(unknownFlags(i)), "no unknown ones");
        }
        if (isEncrypted(i) && !entry.encrypted()) {
            throw refusal(blob, i, "flags", "encrypted", "plain chunks in a blob without cipher");
        }
        if (isZran(i) != entry.has(Feature.ZRAN) || (isBatch(i) && !entry.has(Feature.BATCH))) {
            throw refusal(
                    blob,
                    i,
                    "flags",
                    isZran(i) ? "zran" : isBatch(i) ? "batch" : "neither zran nor batch",
                    "what the blob's features name: " + Feature.names(entry.features()));
        }
        if (isZran(i) || isBatch(i)) {
            contexts.checkChunk(blob, i, this, encodedSize);
            return;
        }
        if (encodedOffset(i) + encodedLength(i) > encodedSize) {
            throw refusal(blob, i, "compressed end", encodedOffset(i) + encodedLength(i), "at most " + encodedSize);
        }
        int padded = isEncrypted(i) ? Math.max(decodedLength(i), AesXts.BLOCK + 2) : decodedLength(i);
        boolean raw = !isCompressed(i);
        if (encodedLength(i) == 0
                || (raw && encodedLength(i) > padded)
                || (raw && encodedLength(i) < decodedLength(i))) {
            throw refusal(
                    blob,
                    i,
                    "compressed size",
                    encodedLength(i),
                    raw ? decodedLength(i) + " for a chunk that is not compressed" : "at least 1");
        }
    }

    static ImageException refusal(String blob, int chunk, String field, Object found, String expected) {
        return new ImageException(blob, "chunk " + chunk + " " + field, found, expected);
    }

    private static final class V1 extends ChunkTable {
        V1(MemorySegment table, int count, long size) {
            super(table, V1_BYTES, count, size);
        }

        private static int size(long word, int highShift) {
            return (int) (word >>> 44 | (word >>> highShift & 0xf) << 20) + 1;
        }

        @Override
        long offset(int chunk) {
            return word(chunk, 0) & 0xfff_ffff_f000L;
        }

        @Override
        int decodedLength(int chunk) {
            return size(word(chunk, 0), 8);
        }

        @Override
        long encodedOffset(int chunk) {
            return word(chunk, 8) & 0xff_ffff_ffffL;
        }

        @Override
        int encodedLength(int chunk) {
            return size(word(chunk, 8), 40);
        }

        @Override
        boolean isCompressed(int chunk) {
            return encodedLength(chunk) != decodedLength(chunk);
        }

        @Override
        boolean isEncrypted(int chunk) {
            return false;
        }

        @Override
        boolean isZran(int chunk) {
            return false;
        }

        @Override
        boolean isBatch(int chunk) {
            return false;
        }

        @Override
        boolean hasCrc(int chunk) {
            return false;
        }

        @Override
        int unknownFlags(int chunk) {
            return 0;
        }

        @Override
        long context(int chunk) {
            throw new UnsupportedOperationException();
        }

        @Override
        long contextOffset(int chunk) {
            throw new UnsupportedOperationException();
        }
    }

    private static final class V2 extends ChunkTable {
        private static final int COMPRESSED = 1;
        private static final int ZRAN = 2;
        private static final int BATCH = 4;
        private static final int ENCRYPTED = 8;
        private static final int HAS_CRC = 0x10;

        V2(MemorySegment table, int count, long size) {
            super(table, V2_BYTES, count, size);
        }

        private int flags(int chunk) {
            return (int) (word(chunk, 0) >>> 56);
        }

        @Override
        long offset(int chunk) {
            return (word(chunk, 0) & 0xffff_ffffL) << 12;
        }

        @Override
        int decodedLength(int chunk) {
            return (int) (word(chunk, 0) >>> 32 & 0xff_ffff) + 1;
        }

        @Override
        long encodedOffset(int chunk) {
            return word(chunk, 8) & 0xff_ffff_ffffL;
        }

        @Override
        int encodedLength(int chunk) {
            return (int) (word(chunk, 8) >>> 40);
        }

        @Override
        boolean isCompressed(int chunk) {
            return (flags(chunk) & COMPRESSED) != 0;
        }

        @Override
        boolean isEncrypted(int chunk) {
            return (flags(chunk) & ENCRYPTED) != 0;
        }

        @Override
        boolean isZran(int chunk) {
            return (flags(chunk) & ZRAN) != 0;
        }

        @Override
        boolean isBatch(int chunk) {
            return (flags(chunk) & BATCH) != 0;
        }

        @Override
        boolean hasCrc(int chunk) {
            return (flags(chunk) & HAS_CRC) != 0 && !isZran(chunk) && !isBatch(chunk);
        }

        @Override
        int unknownFlags(int chunk) {
            return flags(chunk) & ~(COMPRESSED | ZRAN | BATCH | ENCRYPTED | HAS_CRC);
        }

        @Override
        long context(int chunk) {
            return word(chunk, 16) >>> 32;
        }

        @Override
        long contextOffset(int chunk) {
            return word(chunk, 16) & 0xffff_ffffL;
        }
    }
}

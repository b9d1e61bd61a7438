// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;

import dev.erofsublk.composer.ImageException;
import java.lang.foreign.MemorySegment;

/**
 * What several chunks come out of at once: a batch of small ones that were compressed together, or a stretch of the
 * original tar.gz; and which chunks those are. The entries follow the chunk table, 40 bytes each, little-endian.
 *
 * {@snippet lang="c" :
 * struct batch_context {          // storage/src/meta/batch.rs
 *     __le32 compressed_size;     // @0
 *     __le32 uncompressed_size;   // @4
 *     __u8  reserved[32];
 * };
 * struct zran_context {           // storage/src/meta/zran.rs
 *     __le64 in_offset;           // @0  in the tar.gz
 *     __le64 out_offset;          // @8  in the tar
 *     __le64 dict_offset;         // @16 in the dictionaries, which follow the contexts
 *     __le32 in_len;              // @24
 *     __le32 out_len;             // @28
 *     __le32 dict_size;           // @32
 *     __u8  ctx_byte;             // @36 the byte before in_offset
 *     __u8  ctx_bits;             // @37 how many of its upper bits belong to the stretch
 *     __u8  reserved[2];
 * };
 * }
 *
 * <p>Immutable and thread-safe for as long as its memory lives.
 */
final class Contexts {
    static final int BYTES = 40;

    /** A stretch may be long where a single deflate block is; more than this is refused. */
    private static final long MAX_STRETCH = 128L << 20;

    private static final int MAX_DEFLATE_RATIO = 1032;
    private static final int WINDOW = 32 << 10;

    private final boolean zran;
    private final MemorySegment contexts;
    private final MemorySegment dictionaries;
    private final int count;
    private int[] firsts = {0}; // where the chunks of each context begin in `chunks`
    private int[] chunks = {};

    /**
     * @param table contexts, and for zran behind them the dictionaries
     * @param count of contexts, all of which lie in {@code table}
     */
    Contexts(boolean zran, MemorySegment table, int count) {
        this.zran = zran;
        this.count = count;
        contexts = table.asSlice(0, (long) count * BYTES);
        dictionaries = table.asSlice((long) count * BYTES);
    }

    static Contexts none() {
        return new Contexts(false, MemorySegment.NULL, 0);
    }

    int count() {
        return count;
    }

    /** Bytes of the context, encoded. */
    long encodedLength(int context) {
        return u32(context, zran ? 24 : 0);
    }

    /** Bytes of the context, decoded. */
    long decodedLength(int context) {
        return u32(context, zran ? 28 : 4);
    }

    /** Where a stretch begins in the original file. */
    long inOffset(int context) {
        return u64(context, 0);
    }

    int bits(int context) {
        return contexts.get(JAVA_BYTE, (long) context * BYTES + 37);
    }

    int firstByte(int context) {
        return contexts.get(JAVA_BYTE, (long) context * BYTES + 36) & 0xff;
    }

    byte[] dictionary(int context) {
        return dictionaries.asSlice(u64(context, 16), u32(context, 32)).toArray(JAVA_BYTE);
    }

    /** Checks every stretch against the size of the original file, and every batch against its limits. */
    void check(String blob, long encodedSize) throws ImageException {
        for (int i = 0; i < count; i++) {
            if (zran) {
                checkStretch(blob, i, encodedSize);
            } else if (decodedLength(i) == 0 || decodedLength(i) > BlobEntry.MAX_CHUNK_BYTES) {
                throw refusal(blob, i, "uncompressed size", decodedLength(i), "1 to " + BlobEntry.MAX_CHUNK_BYTES);
            } else if (encodedLength(i) == 0 || encodedLength(i) > decodedLength(i) + AesXts.BLOCK + 2) {
                throw refusal(blob, i, "compressed size", encodedLength(i), "1 to " + decodedLength(i));
            }
        }
    }

    private void checkStretch(String blob, int i, long encodedSize) throws ImageException {
        long in = inOffset(i);
        if (in < 0 || in > encodedSize || encodedLength(i) > encodedSize - in) {
            throw refusal(
                    blob,
                    i,
                    "range",
                    "[" + Long.toUnsignedString(in) + ", +" + encodedLength(i) + ")",
                    "within " + encodedSize);
        }
        if (decodedLength(i) > Math.min(MAX_STRETCH, MAX_DEFLATE_RATIO * (encodedLength(i) + 1))) {
            throw refusal(blob, i, "out_len", decodedLength(i), "what " + encodedLength(i) + " bytes can inflate to");
        }
        if (bits(i) < 0 || bits(i) > 7) {
            throw refusal(blob, i, "ctx_bits", bits(i), "0 to 7");
        }
        long dictionary = u64(i, 16);
        long size = u32(i, 32);
        if (size > WINDOW || dictionary < 0 || dictionary > dictionaries.byteSize() - size) {
            throw refusal(
                    blob,
                    i,
                    "dictionary",
                    "[" + Long.toUnsignedString(dictionary) + ", +" + size + ")",
                    "at most 32 KiB within the " + dictionaries.byteSize() + " bytes of dictionaries");
        }
    }

    /** Checks that {@code chunk} lies within the context that it names. */
    void checkChunk(String blob, int chunk, ChunkTable table, long encodedSize) throws ImageException {
        long context = table.context(chunk);
        if (context >= count) {
            throw ChunkTable.refusal(blob, chunk, "context", context, "less than " + count);
        }
        long end = table.contextOffset(chunk) + table.decodedLength(chunk);
        if (end > decodedLength((int) context)) {
            throw ChunkTable.refusal(blob, chunk, "end in its context", end, "at most " + decodedLength((int) context));
        }
        if (!zran && table.encodedOffset(chunk) > encodedSize - encodedLength((int) context)) {
            throw ChunkTable.refusal(
                    blob,
                    chunk,
                    "compressed end",
                    table.encodedOffset(chunk) + encodedLength((int) context),
                    "at most " + encodedSize);
        }
    }

    /** Sorts the chunks of {@code table}, which are checked, by context. */
    void index(ChunkTable table) {
        int[] starts = new int[count + 1];
        for (int i = 0; i < table.count(); i++) {
            if (table.isZran(i) || table.isBatch(i)) {
                starts[(int) table.context(i) + 1]++;
            }
        }
        for (int i = 0; i < count; i++) {
            starts[i + 1] += starts[i];
        }
        firsts = starts.clone();
        chunks = new int[starts[count]];
        for (int i = 0; i < table.count(); i++) {
            if (table.isZran(i) || table.isBatch(i)) {
                chunks[starts[(int) table.context(i)]++] = i;
            }
        }
    }

    /** How many chunks come out of {@code context}. */
    int chunkCount(int context) {
        return firsts[context + 1] - firsts[context];
    }

    /** The {@code i}th chunk of {@code context}. */
    int chunk(int context, int i) {
        return chunks[firsts[context] + i];
    }

    private long u32(int context, int at) {
        return Integer.toUnsignedLong(contexts.get(JAVA_INT_UNALIGNED, (long) context * BYTES + at));
    }

    private long u64(int context, int at) {
        return contexts.get(JAVA_LONG_UNALIGNED, (long) context * BYTES + at);
    }

    private ImageException refusal(String blob, int context, String field, Object found, String expected) {
        return new ImageException(
                blob, (zran ? "zran" : "batch") + " context " + context + " " + field, found, expected);
    }
}

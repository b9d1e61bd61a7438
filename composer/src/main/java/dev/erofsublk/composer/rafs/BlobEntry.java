// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;

import dev.erofsublk.composer.ImageException;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.regex.Pattern;

/**
 * An entry of the blob table, little-endian (rafs/src/metadata/layout/v6.rs, {@code RafsV6Blob}):
 *
 * {@snippet lang="c" :
 * struct rafs_v6_blob {           // 256 bytes
 *     __u8  blob_id[64];          // @0
 *     __le32 blob_index;          // @64
 *     __le32 chunk_size;          // @68
 *     __le32 chunk_count;         // @72
 *     __le32 compressor;          // @76
 *     __le32 digester;            // @80
 *     __le32 features;            // @84
 *     __le64 compressed_size;     // @88
 *     __le64 uncompressed_size;   // @96
 *     __le32 toc_size;            // @104
 *     __le32 ci_compressor;       // @108
 *     __le64 ci_offset;           // @112
 *     __le64 ci_compressed_size;  // @120
 *     __le64 ci_uncompressed_size; // @128
 *     __u8  toc_digest[32];       // @136
 *     __u8  meta_digest[32];      // @168 of an encrypted blob: the key
 *     __le64 meta_size;           // @200 of an encrypted blob: the first half of the IV
 *     __u8  iv[8];                // @208 the other half
 *     __le32 cipher;              // @216
 *     __u8  reserved[36];
 * };
 * }
 *
 * <p>Immutable; every value is checked as far as it can be without the blob.
 */
final class BlobEntry {
    static final int BYTES = 256;
    static final int MAX_CHUNKS = 1 << 24;
    static final int MAX_CHUNK_BYTES = 16 << 20;

    /** 16 million chunks of 24 bytes, and room for the dictionaries of 20,000 stretches. */
    private static final long MAX_TABLE = 1L << 30;

    /** What 32 bits of 4 KiB can address. */
    private static final long MAX_DECODED = 1L << 44;

    private static final Pattern ID = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}");

    private final String table;
    private final int index;
    private final String id;
    private final MemorySegment entry;

    /**
     * @param bootstrap the file's name, for messages
     * @param index the position in the table
     * @param entry the 256 bytes, which must not change any more
     */
    BlobEntry(String bootstrap, int index, MemorySegment entry) throws ImageException {
        table = bootstrap;
        this.index = index;
        this.entry = entry;
        id = trimmed(entry.asSlice(0, 64));
        check();
    }

    private void check() throws ImageException {
        if (!ID.matcher(id).matches()) {
            throw refusal("blob_id", '"' + id + '"', "letters, digits and . _ - (64 hex digits as a rule)");
        }
        if (u32(64) != index) {
            throw refusal("blob_index", u32(64), "" + index);
        }
        int unknown = Feature.unknown(features());
        if (unknown != 0) {
            throw refusal(
                    "features", "0x%08x".formatted(features()), "none of the unknown bits 0x%x".formatted(unknown));
        }
        if (has(Feature.EXTERNAL)) {
            throw refusal("features", Feature.names(features()), "no EXTERNAL blob: its data are not in a blob file");
        }
        code("compressor", 76, Compressor.CODES);
        code("digester", 80, Digester.CODES);
        code("ci_compressor", 108, Compressor.CODES);
        if (u32(216) > 1) {
            throw refusal("cipher", u32(216), "0 (none) or 1 (aes-128-xts)");
        }
        if (encrypted() != has(Feature.ENCRYPTED)) {
            throw refusal("features", Feature.names(features()), "ENCRYPTED exactly if cipher is not 0");
        }
        if (encrypted() && !has(Feature.CHUNK_INFO_V2)) {
            throw refusal("features", Feature.names(features()), "CHUNK_INFO_V2 with ENCRYPTED");
        }
        if (encrypted() && !AesXts.isUsable(key())) {
            throw refusal("cipher key", "two equal halves", "two different ones");
        }
        if (u32(72) > MAX_CHUNKS) {
            throw refusal("chunk_count", u32(72), "at most " + MAX_CHUNKS);
        }
        limited("compressed_size", 88, Long.MAX_VALUE);
        limited("uncompressed_size", 96, MAX_DECODED);
        limited("ci_offset", 112, Long.MAX_VALUE);
        limited("ci_compressed_size", 120, MAX_TABLE);
        limited("ci_uncompressed_size", 128, MAX_TABLE);
    }

    private void code(String field, int at, int codes) throws ImageException {
        if (u32(at) >= codes) {
            throw refusal(field, u32(at), "0 to " + (codes - 1));
        }
    }

    private void limited(String field, int at, long limit) throws ImageException {
        long value = u64(at);
        if (value < 0 || value > limit) {
            throw refusal(field, Long.toUnsignedString(value), "at most " + limit);
        }
    }

    /** The refusal of a field of this entry. */
    ImageException refusal(String field, Object found, String expected) {
        return new ImageException(table, "blob_table[" + index + "]." + field, found, expected);
    }

    int index() {
        return index;
    }

    String id() {
        return id;
    }

    int features() {
        return entry.get(JAVA_INT_UNALIGNED, 84);
    }

    boolean has(Feature feature) {
        return feature.in(features());
    }

    int chunkSize() {
        return (int) u32(68);
    }

    int chunkCount() {
        return (int) u32(72);
    }

    Compressor compressor() {
        return Compressor.of(u32(76));
    }

    Digester digester() {
        return u32(80) == 0 ? Digester.BLAKE3 : Digester.SHA256;
    }

    long compressedSize() {
        return u64(88);
    }

    long uncompressedSize() {
        return u64(96);
    }

    /** Bytes of the table of contents with its tar header, at the end of the blob file; 0 if not known. */
    long tocSize() {
        return u32(104);
    }

    /** How the chunk table is compressed. Nydus before 2.2 had no field for it and used the chunks' compressor. */
    Compressor ciCompressor() {
        Compressor named = Compressor.of(u32(108));
        boolean unnamed =
                named == Compressor.NONE && !has(Feature.CAP_TAR_TOC) && ciCompressedSize() != ciUncompressedSize();
        return unnamed ? compressor() : named;
    }

    long ciOffset() {
        return u64(112);
    }

    long ciCompressedSize() {
        return u64(120);
    }

    long ciUncompressedSize() {
        return u64(128);
    }

    byte[] tocDigest() {
        return bytes(136, 32);
    }

    /** The id of the blob that holds the chunk table of a {@link Feature#SEPARATE} one. */
    String metaId() {
        return HexFormat.of().formatHex(bytes(168, 32));
    }

    boolean encrypted() {
        return u32(216) != 0;
    }

    private byte[] key() {
        return bytes(168, AesXts.KEY_BYTES);
    }

    /** What decrypts this blob, which is {@link #encrypted()}. */
    AesXts cipher() {
        return new AesXts(key(), bytes(200, AesXts.BLOCK));
    }

    /** The entry as stored, which with the blob decides the decoded bytes. */
    byte[] raw() {
        return bytes(0, BYTES);
    }

    private byte[] bytes(int at, int length) {
        return entry.asSlice(at, length).toArray(JAVA_BYTE);
    }

    private long u32(int at) {
        return Integer.toUnsignedLong(entry.get(JAVA_INT_UNALIGNED, at));
    }

    private long u64(int at) {
        return entry.get(JAVA_LONG_UNALIGNED, at);
    }

    /** Text in a fixed field, padded with zero bytes. */
    static String trimmed(MemorySegment field) {
        byte[] bytes = field.toArray(JAVA_BYTE);
        int length = bytes.length;
        while (length > 0 && bytes[length - 1] == 0) {
            length--;
        }
        return new String(bytes, 0, length, StandardCharsets.ISO_8859_1);
    }
}

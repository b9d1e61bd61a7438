// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The table of contents at the end of a blob file: 128-byte entries, and behind them their tar header, which is the last
 * 512 bytes of the file, because each header of such a file follows its content (storage/src/meta/toc.rs).
 *
 * {@snippet lang="c" :
 * struct toc_entry {              // 128 bytes, little-endian
 *     __le32 flags;               // @0  1 not compressed, 2 zstd, 4 lz4_block
 *     __le32 reserved1;
 *     __u8  name[16];             // @8
 *     __u8  digest[32];           // @24 sha256 of the content, decompressed
 *     __le64 compressed_offset;   // @56
 *     __le64 compressed_size;     // @64
 *     __le64 uncompressed_size;   // @72
 *     __u8  reserved2[48];
 * };
 * }
 */
final class Toc {
    static final String BOOTSTRAP = "image.boot";
    static final String CHUNK_TABLE = "blob.meta";
    static final String CHUNK_TABLE_HEADER = "blob.meta.header";
    static final String DIGESTS = "blob.digest";

    private static final String SELF = "rafs.blob.toc";
    private static final int TAR_HEADER = 512;
    private static final int ENTRY_BYTES = 128;
    private static final int MAX_BYTES = 0x10000;

    private final List<Entry> entries;

    private Toc(List<Entry> entries) {
        this.entries = entries;
    }

    /**
     * One content of a blob file.
     *
     * @param name what it is
     * @param compressor how it is stored
     * @param digest sha256 of the content in hexadecimal, or null if none is given
     */
    record Entry(
            String name, Compressor compressor, @Nullable String digest, long offset, long stored, long size) {}

    /** The entry {@code name}, or null. */
    @Nullable
    Entry find(String name) {
        for (Entry entry : entries) {
            if (entry.name.equals(name)) {
                return entry;
            }
        }
        return null;
    }

    /**
     * Reads the table of contents of {@code blob}.
     *
     * @return null if the file does not end with one
     */
    static @Nullable Toc read(Blob blob) throws IOException {
        return read(blob, new byte[Digester.BYTES]);
    }

    /** {@link #read(Blob)}, with the sha256 that the table and its header must have, unless that is all zeros. */
    static @Nullable Toc read(Blob blob, byte[] digest) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            TarHeader header = TarHeader.atEnd(blob, arena);
            if (header == null) {
                return null;
            }
            if (header.name().equals(BOOTSTRAP)) { // a blob without table whose last content is the bootstrap
                long end = blob.size() - TAR_HEADER;
                if (header.size() > end) {
                    throw new ImageException(blob.name(), "tar header size", header.size(), "at most " + end);
                }
                return new Toc(List.of(new Entry(
                        BOOTSTRAP, Compressor.NONE, null, end - header.size(), header.size(), header.size())));
            }
            if (!header.name().equals(SELF)) {
                return null;
            }
            long bytes = header.size();
            if (bytes == 0 || bytes > MAX_BYTES || bytes % ENTRY_BYTES != 0 || bytes + TAR_HEADER > blob.size()) {
                throw new ImageException(
                        blob.name(), "size of rafs.blob.toc", bytes, "a multiple of 128, at most " + MAX_BYTES);
            }
            MemorySegment table = arena.allocate(bytes + TAR_HEADER, 8);
            blob.read(blob.size() - table.byteSize(), table);
            checkDigest(blob, table, digest);
            List<Entry> entries = new ArrayList<>();
            for (long at = 0; at < bytes; at += ENTRY_BYTES) {
                entries.add(entry(blob, table.asSlice(at, ENTRY_BYTES)));
            }
            return new Toc(List.copyOf(entries));
        }
    }

    private static void checkDigest(Blob blob, MemorySegment table, byte[] expected) throws ImageException {
        byte[] found = Digester.SHA256.digest(table);
        if (!MessageDigest.isEqual(expected, new byte[Digester.BYTES]) && !MessageDigest.isEqual(expected, found)) {
            throw new ImageException(blob.name(), "sha256 of rafs.blob.toc", hex(found), hex(expected));
        }
    }

    private static Entry entry(Blob blob, MemorySegment entry) throws ImageException {
        String name = BlobEntry.trimmed(entry.asSlice(8, 16));
        int flags = entry.get(JAVA_INT_UNALIGNED, 0);
        Compressor compressor = switch (flags) {
            case 1 -> Compressor.NONE;
            case 2 -> Compressor.ZSTD;
            case 4 -> Compressor.LZ4_BLOCK;
            default ->
                throw new ImageException(
                        blob.name(), "toc entry \"" + name + "\" flags", "0x%x".formatted(flags), "1, 2 or 4");
        };
        byte[] digest = entry.asSlice(24, Digester.BYTES).toArray(JAVA_BYTE);
        boolean none = MessageDigest.isEqual(digest, new byte[Digester.BYTES]);
        long offset = entry.get(JAVA_LONG_UNALIGNED, 56);
        long stored = entry.get(JAVA_LONG_UNALIGNED, 64);
        long size = entry.get(JAVA_LONG_UNALIGNED, 72);
        if (offset < 0 || stored < 0 || size < 0 || stored > blob.size() || offset > blob.size() - stored) {
            // image.blob of a separate blob lies elsewhere: what is never read from here need not lie here
            if (!name.equals("image.blob")) {
                throw new ImageException(
                        blob.name(),
                        "toc entry \"" + name + "\" range",
                        "[" + Long.toUnsignedString(offset) + ", +" + Long.toUnsignedString(stored) + ")",
                        "within the file of " + blob.size() + " bytes");
            }
        }
        return new Entry(name, compressor, none ? null : hex(digest), offset, stored, size);
    }

    static String hex(byte[] bytes) {
        return java.util.HexFormat.of().formatHex(bytes);
    }
}

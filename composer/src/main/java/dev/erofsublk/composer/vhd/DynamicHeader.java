// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Fields;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;

/**
 * The header of a dynamic or differencing disk.
 *
 * <pre>
 *   @0 "cxsparse"  @8 u64 unused  @16 u64 table offset  @24 u32 version 0x00010000  @28 u32 table entries
 *   @32 u32 block size  @36 u32 checksum  @40 parent UUID  @56 u32 parent time  @64 parent name, UTF-16BE[256]
 *   @576 8 locators of 24 bytes: code, u32 space, u32 length, u32 0, u64 offset
 * </pre>
 *
 * @param tableOffset byte of the block allocation table, a multiple of 512
 * @param entries of the table
 * @param blockSize bytes of data in a block, a power of two from 4 KiB to 256 MiB
 * @param parentUuid the parent's UUID; without meaning in a dynamic disk
 * @param parents names of the parent, in the order in which they are tried; none in a dynamic disk
 */
record DynamicHeader(long tableOffset, int entries, int blockSize, UUID parentUuid, List<String> parents) {
    static final String COOKIE = "cxsparse";
    static final int BYTES = 1024;
    static final int CHECKSUM_AT = 36;

    private static final int VERSION = 0x00010000;
    /** Two TiB, the most that a disk can have, in blocks of 32 KiB. */
    private static final int MAX_ENTRIES = 1 << 26;

    private static final int MIN_BLOCK = 4 << 10;
    private static final int MAX_BLOCK = 256 << 20;
    private static final int LOCATORS = 8;
    private static final int LOCATORS_AT = 576;
    private static final int LOCATOR_BYTES = 24;
    private static final int MAX_PATH_BYTES = 16 << 10;

    static DynamicHeader read(FlatImage file, String name, Footer footer) throws IOException {
        if (footer.dataOffset() % 512 != 0) {
            throw new ImageException(
                    name, "footer.data offset", Long.toUnsignedString(footer.dataOffset()), "a multiple of 512");
        }
        Fields header = Fields.read(file, name, "dynamic header", footer.dataOffset(), BYTES, ByteOrder.BIG_ENDIAN);
        if (!header.has(0, COOKIE)) {
            throw header.refuse("cookie", "\"" + header.word(0, 8) + "\"", "\"" + COOKIE + "\"");
        }
        long checksum = Footer.checksum(header.bytes(), CHECKSUM_AT);
        if (checksum != header.u32(CHECKSUM_AT)) {
            throw header.refuse("checksum", header.u32(CHECKSUM_AT), String.valueOf(checksum));
        }
        if (header.u32(24) != VERSION) {
            throw header.refuse("version", "0x" + Long.toHexString(header.u32(24)), "0x10000");
        }
        if (header.u64(16) % 512 != 0) {
            throw header.refuse("table offset", header.u64(16), "a multiple of 512");
        }
        long entries = header.u32(28);
        if (entries == 0 || entries > MAX_ENTRIES) {
            throw header.refuse("max table entries", entries, "1 to " + MAX_ENTRIES);
        }
        long blockSize = header.u32(32);
        if (blockSize < MIN_BLOCK || blockSize > MAX_BLOCK || Long.bitCount(blockSize) != 1) {
            throw header.refuse("block size", blockSize, "a power of two from 4 KiB to 256 MiB");
        }
        return new DynamicHeader(
                header.u64(16),
                (int) entries,
                (int) blockSize,
                new UUID(header.u64(40), header.u64(48)),
                footer.type() == Footer.Type.DIFFERENCING ? parents(file, header) : List.of());
    }

    /** Bytes of the bitmap in front of each block: one bit a sector, in whole sectors. */
    int bitmapBytes() {
        return (blockSize / 4096 + 511) & -512;
    }

    /**
     * The relative path first, then what is left of the absolute ones: a drive of the machine that wrote the image means
     * nothing here, so only the file's own name is tried, beside the child. That it is the right file is proved by its
     * UUID. The Macintosh's file URLs and the locators that were deprecated before 2006 are not looked at.
     */
    private static List<String> parents(FlatImage file, Fields header) throws IOException {
        List<String> relative = new ArrayList<>();
        List<String> absolute = new ArrayList<>();
        for (int i = 0; i < LOCATORS; i++) {
            int at = LOCATORS_AT + LOCATOR_BYTES * i;
            String code = header.word(at, 4);
            if (code.equals("W2ru") || code.equals("W2ku")) {
                String path = path(file, header, "parent locator " + i, header.u64(at + 16), header.u32(at + 8));
                (code.equals("W2ru") ? relative : absolute).add(path);
            }
        }
        absolute.add(text(header, "parent name", header.bytes().slice(64, 512), StandardCharsets.UTF_16BE));
        List<String> names = new ArrayList<>();
        relative.forEach(path -> add(names, path.replace('\\', '/')));
        absolute.forEach(path -> add(names, path.substring(lastSeparator(path) + 1)));
        if (names.isEmpty()) {
            throw header.refuse("parent name", "empty", "the name of the parent, here or in a locator");
        }
        return List.copyOf(names);
    }

    private static int lastSeparator(String path) {
        return Math.max(path.lastIndexOf('\\'), path.lastIndexOf('/'));
    }

    private static void add(List<String> names, String name) {
        if (!name.isEmpty() && !names.contains(name)) {
            names.add(name);
        }
    }

    private static String path(FlatImage file, Fields header, String field, long offset, long length)
            throws IOException {
        if (length > MAX_PATH_BYTES || length % 2 != 0) {
            throw header.refuse(field + ".length", length, "an even number up to " + MAX_PATH_BYTES);
        }
        Fields data = Fields.read(file, header.file(), field, offset, (int) length, ByteOrder.BIG_ENDIAN);
        return text(header, field, data.bytes(), StandardCharsets.UTF_16LE);
    }

    /** The text up to the first NUL. */
    private static String text(Fields header, String field, ByteBuffer bytes, Charset charset) throws ImageException {
        int length = 0;
        while (length + 1 < bytes.capacity() && bytes.getShort(length) != 0) {
            length += 2;
        }
        try {
            return charset.newDecoder().decode(bytes.slice(0, length)).toString();
        } catch (CharacterCodingException e) {
            throw header.refuse(field, "not UTF-16", charset + " text");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.BitSet;
import java.util.UUID;

/**
 * Writes small VHD files from the facts, for what QEMU cannot: differencing, split, partial bitmaps.
 *
 * <pre>
 *   0 footer copy | 512 dynamic header | 1536 BAT, one sector | 2048 parent locator | 2560 … blocks | footer
 * </pre>
 */
final class VhdBuilder {
    static final int HEADER = 512;
    static final int BAT = 1536;
    static final int LOCATOR = 2048;
    static final int FIRST_BLOCK = 2560;
    static final UUID ID = UUID.fromString("01020304-0506-0708-090a-0b0c0d0e0f10");

    private final int blockSize;
    private final int bitmapBytes;
    private ByteBuffer file = ByteBuffer.allocate(FIRST_BLOCK);

    VhdBuilder(long size, int blockSize) {
        this.blockSize = blockSize;
        bitmapBytes = (blockSize / 4096 + 511) / 512 * 512;
        footer(file, 0, size, 3, 512);
        file.put(HEADER, "cxsparse".getBytes(StandardCharsets.US_ASCII));
        file.putLong(HEADER + 8, -1).putLong(HEADER + 16, BAT).putInt(HEADER + 24, 0x10000);
        file.putInt(HEADER + 28, (int) ((size + blockSize - 1) / blockSize)).putInt(HEADER + 32, blockSize);
        byte[] unused = new byte[512];
        Arrays.fill(unused, (byte) 0xff);
        file.put(BAT, unused);
    }

    /** Writes a footer with the fields of Hyper-V, whose current size counts. */
    static void footer(ByteBuffer file, int at, long size, int type, long dataOffset) {
        file.put(at, new byte[512]);
        file.put(at, "conectix".getBytes(StandardCharsets.US_ASCII));
        file.putInt(at + 8, 2)
                .putInt(at + 12, 0x10000)
                .putLong(at + 16, dataOffset)
                .putInt(at + 24, 1000);
        file.put(at + 28, "win ".getBytes(StandardCharsets.US_ASCII)).putInt(at + 32, 0xa0000);
        file.put(at + 36, "Wi2k".getBytes(StandardCharsets.US_ASCII));
        file.putLong(at + 40, size).putLong(at + 48, size);
        file.putShort(at + 56, (short) 100)
                .put(at + 58, (byte) 16)
                .put(at + 59, (byte) 63)
                .putInt(at + 60, type);
        file.putLong(at + 68, ID.getMostSignificantBits()).putLong(at + 76, ID.getLeastSignificantBits());
        seal(file, at, 512, 64);
    }

    static void seal(ByteBuffer file, int at, int length, int field) {
        int sum = 0;
        file.putInt(at + field, 0);
        for (int i = 0; i < length; i++) {
            sum += file.get(at + i) & 0xff;
        }
        file.putInt(at + field, ~sum);
    }

    VhdBuilder uuid(UUID id) {
        file.putLong(68, id.getMostSignificantBits()).putLong(76, id.getLeastSignificantBits());
        return this;
    }

    /** Makes it a child. */
    VhdBuilder childOf(String relativePath, UUID parent) {
        file.putInt(60, 4);
        file.putLong(HEADER + 40, parent.getMostSignificantBits());
        file.putLong(HEADER + 48, parent.getLeastSignificantBits());
        byte[] path = relativePath.getBytes(StandardCharsets.UTF_16LE);
        file.put(HEADER + 576, "W2ru".getBytes(StandardCharsets.US_ASCII));
        file.putInt(HEADER + 580, 512).putInt(HEADER + 584, path.length).putLong(HEADER + 592, LOCATOR);
        file.put(LOCATOR, path);
        return this;
    }

    /** The name in the header's own field, which comes after the locators. */
    VhdBuilder parentName(String name) {
        file.put(HEADER + 64, new byte[512]).put(HEADER + 64, name.getBytes(StandardCharsets.UTF_16BE));
        return this;
    }

    /** Appends a block whose sectors {@code here} are in the file. */
    VhdBuilder block(int index, BitSet here, byte[] content) {
        int at = file.capacity();
        ByteBuffer longer = ByteBuffer.allocate(at + bitmapBytes + blockSize);
        longer.put(0, file, 0, at);
        file = longer;
        here.stream().forEach(i -> file.put(at + i / 8, (byte) (file.get(at + i / 8) | 0x80 >> i % 8)));
        file.put(at + bitmapBytes, content);
        file.putInt(BAT + 4 * index, at / 512);
        return this;
    }

    /** Appends a block that is wholly in the file. */
    VhdBuilder block(int index, byte[] content) {
        BitSet all = new BitSet();
        all.set(0, blockSize / 512);
        return block(index, all, content);
    }

    ByteBuffer file() {
        return file;
    }

    /** The finished file: checksums brought up to date, the footer behind the blocks. */
    ByteBuffer build() {
        seal(file, 0, 512, 64);
        seal(file, HEADER, 1024, 36);
        ByteBuffer whole = ByteBuffer.allocate(file.capacity() + 512);
        whole.put(0, file, 0, file.capacity()).put(file.capacity(), file, 0, 512);
        return whole;
    }

    Path write(Path to) throws IOException {
        return Files.write(to, bytes(build()));
    }

    static byte[] bytes(ByteBuffer file) {
        byte[] bytes = new byte[file.capacity()];
        file.get(0, bytes);
        return bytes;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.BitSet;
import java.util.Map;
import java.util.UUID;
import java.util.zip.CRC32C;

/**
 * Writes small VHDX files from the facts, for what QEMU cannot: differencing, 4096-byte sectors, logs.
 *
 * <pre>
 *   0 headers | 1 MiB log | 2 MiB metadata | 3 MiB BAT | 4 MiB … blocks in the order of their adding
 * </pre>
 */
final class VhdxBuilder {
    static final int MIB = 1 << 20;
    static final int HEADER_1 = 64 << 10;
    static final int HEADER_2 = 128 << 10;
    static final int REGIONS_1 = 192 << 10;
    static final int REGIONS_2 = 256 << 10;
    static final int LOG = MIB;
    static final int METADATA = 2 * MIB;
    static final int BAT = 3 * MIB;
    static final int FIRST_BLOCK = 4 * MIB;
    /** Where the items are, relative to the metadata region. */
    static final int FILE_PARAMETERS = 64 << 10;

    static final int VIRTUAL_SIZE = FILE_PARAMETERS + 8;
    static final int DISK_ID = VIRTUAL_SIZE + 8;
    static final int SECTOR_SIZE = DISK_ID + 16;
    static final int PHYSICAL_SECTOR_SIZE = SECTOR_SIZE + 4;
    static final int PARENT_LOCATOR = PHYSICAL_SECTOR_SIZE + 4;

    static final int ZERO = 2;
    static final int FULL = 6;
    static final int PARTIAL = 7;
    static final UUID DATA_WRITE_GUID = UUID.fromString("11112222-3333-4444-5555-666677778888");

    private final int blockSize;
    private final int chunkRatio;
    private ByteBuffer file;

    VhdxBuilder(long size, int blockSize, int sectorSize) {
        this(size, blockSize, sectorSize, DATA_WRITE_GUID);
    }

    VhdxBuilder(long size, int blockSize, int sectorSize, UUID dataWriteGuid) {
        this.blockSize = blockSize;
        chunkRatio = (int) ((1L << 23) * sectorSize / blockSize);
        file = ByteBuffer.allocate(FIRST_BLOCK).order(ByteOrder.LITTLE_ENDIAN);
        file.put(0, "vhdxfile".getBytes(StandardCharsets.US_ASCII));
        for (int i = 0; i < 2; i++) {
            int at = i == 0 ? HEADER_1 : HEADER_2;
            file.put(at, "head".getBytes(StandardCharsets.US_ASCII));
            file.putLong(at + 8, 5 + i);
            guid(at + 16, new UUID(1, 2));
            guid(at + 32, dataWriteGuid);
            file.putShort(at + 66, (short) 1).putInt(at + 68, MIB).putLong(at + 72, LOG);
        }
        for (int at : new int[] {REGIONS_1, REGIONS_2}) {
            file.put(at, "regi".getBytes(StandardCharsets.US_ASCII));
            file.putInt(at + 8, 2);
            region(at + 16, RegionTable.BAT, BAT);
            region(at + 48, RegionTable.METADATA, METADATA);
        }
        file.put(METADATA, "metadata".getBytes(StandardCharsets.US_ASCII));
        item(Metadata.FILE_PARAMETERS, FILE_PARAMETERS, 8, 4);
        item(Metadata.VIRTUAL_SIZE, VIRTUAL_SIZE, 8, 6);
        item(Metadata.DISK_ID, DISK_ID, 16, 6);
        item(Metadata.SECTOR_SIZE, SECTOR_SIZE, 4, 6);
        item(Metadata.PHYSICAL_SECTOR_SIZE, PHYSICAL_SECTOR_SIZE, 4, 6);
        file.putInt(METADATA + FILE_PARAMETERS, blockSize).putLong(METADATA + VIRTUAL_SIZE, size);
        guid(METADATA + DISK_ID, new UUID(3, 4));
        file.putInt(METADATA + SECTOR_SIZE, sectorSize).putInt(METADATA + PHYSICAL_SECTOR_SIZE, 4096);
        seal();
    }

    private void region(int at, UUID id, int offset) {
        guid(at, id);
        file.putLong(at + 16, offset).putInt(at + 24, MIB).putInt(at + 28, 1);
    }

    private void item(UUID id, int offset, int length, int flags) {
        int count = file.getShort(METADATA + 10);
        file.putShort(METADATA + 10, (short) (count + 1));
        int at = METADATA + 32 + 32 * count;
        guid(at, id);
        file.putInt(at + 16, offset).putInt(at + 20, length).putInt(at + 24, flags);
    }

    /** Makes it a child, with the keys in the order of the map. */
    VhdxBuilder child(Map<String, String> locator) {
        file.putInt(METADATA + FILE_PARAMETERS + 4, 2);
        int at = METADATA + PARENT_LOCATOR;
        guid(at, UUID.fromString("b04aefb7-d19e-4a81-b789-25b8e9445913"));
        file.putShort(at + 18, (short) locator.size());
        int entry = at + 20;
        int text = 20 + 12 * locator.size();
        for (Map.Entry<String, String> pair : locator.entrySet()) {
            byte[] key = pair.getKey().getBytes(StandardCharsets.UTF_16LE);
            byte[] value = pair.getValue().getBytes(StandardCharsets.UTF_16LE);
            file.putInt(entry, text).putInt(entry + 4, text + key.length);
            file.putShort(entry + 8, (short) key.length).putShort(entry + 10, (short) value.length);
            file.put(at + text, key).put(at + text + key.length, value);
            entry += 12;
            text += key.length + value.length;
        }
        item(Metadata.PARENT_LOCATOR, PARENT_LOCATOR, text, 4);
        return this;
    }

    /** Makes it the child of what {@link VhdxBuilder} wrote as {@code parent}. */
    VhdxBuilder childOf(String parent, UUID linkage) {
        return child(Map.of("parent_linkage", "{" + linkage + "}", "relative_path", ".\\" + parent));
    }

    /** Gives block {@code index} a state without content. */
    VhdxBuilder state(int index, long state) {
        file.putLong(batEntry(index), state);
        return this;
    }

    /** Appends a block to the file. */
    VhdxBuilder block(int index, int state, byte[] content) {
        int at = append(blockSize);
        file.put(at, content);
        return state(index, at | state);
    }

    /** Appends a sector bitmap block. */
    VhdxBuilder bitmap(int chunk, BitSet here) {
        int at = append(MIB);
        file.put(at, here.toByteArray());
        file.putLong(BAT + 8 * (chunk * (chunkRatio + 1) + chunkRatio), at | FULL);
        return this;
    }

    int batEntry(int index) {
        return BAT + 8 * (index + index / chunkRatio);
    }

    private int append(int bytes) {
        int at = file.capacity();
        resize(at + bytes);
        return at;
    }

    VhdxBuilder resize(int size) {
        ByteBuffer longer = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
        longer.put(0, file, 0, Math.min(size, file.capacity()));
        file = longer;
        return this;
    }

    /** The file for changes; {@link #seal} afterwards. */
    ByteBuffer file() {
        return file;
    }

    void guid(int at, UUID id) {
        guid(file, at, id);
    }

    static void guid(ByteBuffer file, int at, UUID id) {
        long high = id.getMostSignificantBits();
        file.putInt(at, (int) (high >>> 32))
                .putShort(at + 4, (short) (high >>> 16))
                .putShort(at + 6, (short) high);
        file.putLong(at + 8, Long.reverseBytes(id.getLeastSignificantBits()));
    }

    /** Brings all checksums of headers and region tables up to date. */
    VhdxBuilder seal() {
        seal(file, HEADER_1, 4096);
        seal(file, HEADER_2, 4096);
        seal(file, REGIONS_1, 65536);
        seal(file, REGIONS_2, 65536);
        return this;
    }

    static void seal(ByteBuffer file, int at, int length) {
        CRC32C crc = new CRC32C();
        file.putInt(at + 4, 0);
        crc.update(file.slice(at, length));
        file.putInt(at + 4, (int) crc.getValue());
    }

    Path write(Path to) throws IOException {
        seal();
        return Files.write(to, file.array());
    }
}

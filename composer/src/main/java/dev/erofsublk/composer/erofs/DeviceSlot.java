// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Source;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * One slot of the device table: where a blob lies in the flattened address space.
 *
 * {@snippet lang="c" :
 * struct erofs_deviceslot {       // Linux 7.2, fs/erofs/erofs_fs.h; little-endian, 128 bytes
 *     __u8   tag[64];             // @0   sha256 hex of Nydus, UUID hex of a merged layer, or zeros
 *     __le32 blocks_lo;           // @64
 *     __le32 uniaddr_lo;          // @68
 *     __le16 blocks_hi;           // @72  with 48BIT only
 *     __le16 uniaddr_hi;          // @74  with 48BIT only
 *     __u8   reserved[52];        // @76
 * };
 * }
 *
 * @param number 1 for the first slot, which is the device id that chunk indexes use
 * @param tag printable, empty if all zero
 * @param block first block of the blob in the flattened space ({@code uniaddr}); 0 if the writer left it out
 * @param blocks length in blocks of the file system; 0 if the writer left it out
 */
public record DeviceSlot(int number, String tag, long block, long blocks) {
    public static final int BYTES = 128;
    static final int TAG_BYTES = 64;
    static final int BLOCKS_LO = 64;
    static final int BLOCK_LO = 68;
    static final int BLOCKS_HI = 72;
    static final int BLOCK_HI = 74;

    /** Reads the whole table, which lies in the image behind its superblock. */
    static List<DeviceSlot> readAll(Source meta, Superblock superblock) throws IOException {
        check(meta.name(), meta.size(), superblock);
        if (superblock.extraDevices() == 0) {
            return List.of();
        }
        return parseAll(Superblock.bytes(meta, superblock.deviceSlotOffset(), tableBytes(superblock)), superblock);
    }

    /**
     * Reads the whole table from the device that was composed by it.
     *
     * @param name what refusals call it
     */
    public static List<DeviceSlot> readAll(String name, FlatImage flat, Superblock superblock) throws IOException {
        check(name, flat.size(), superblock);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment table = arena.allocate(tableBytes(superblock));
            flat.read(table.byteSize() == 0 ? 0 : superblock.deviceSlotOffset(), table);
            return parseAll(table.toArray(ValueLayout.JAVA_BYTE), superblock);
        }
    }

    private static int tableBytes(Superblock superblock) {
        return superblock.extraDevices() * BYTES;
    }

    private static void check(String name, long size, Superblock superblock) throws ImageException {
        int count = superblock.extraDevices();
        if (count == 0) {
            return;
        }
        long start = superblock.deviceSlotOffset();
        long end = start + (long) count * BYTES;
        long behindSuperblock = Superblock.OFFSET + Superblock.BYTES + 16L * superblock.extSlots();
        if (start < behindSuperblock) {
            throw new ImageException(
                    name,
                    "superblock.devt_slotoff",
                    "%d (byte %d)".formatted(start / BYTES, start),
                    "a table behind the superblock, from byte " + behindSuperblock + " on");
        }
        if (end > size) {
            throw new ImageException(
                    name,
                    "superblock.extra_devices",
                    "%d (table [%d, %d))".formatted(count, start, end),
                    "a table within the image's " + size + " bytes");
        }
    }

    private static List<DeviceSlot> parseAll(byte[] bytes, Superblock superblock) {
        ByteBuffer table = Superblock.le(bytes);
        List<DeviceSlot> slots = new ArrayList<>(superblock.extraDevices());
        for (int i = 0; i < superblock.extraDevices(); i++) {
            slots.add(parse(table, i, superblock.is48Bit()));
        }
        return slots;
    }

    private static DeviceSlot parse(ByteBuffer table, int index, boolean wide) {
        int at = index * BYTES;
        long blocks = Integer.toUnsignedLong(table.getInt(at + BLOCKS_LO));
        long block = Integer.toUnsignedLong(table.getInt(at + BLOCK_LO));
        if (wide) {
            blocks |= (table.getShort(at + BLOCKS_HI) & 0xffffL) << 32;
            block |= (table.getShort(at + BLOCK_HI) & 0xffffL) << 32;
        }
        byte[] tag = new byte[TAG_BYTES];
        table.get(at, tag);
        return new DeviceSlot(index + 1, text(tag), block, blocks);
    }

    /** Up to the first NUL; a byte that is not printable ASCII shows as {@code ?} and so matches no file. */
    private static String text(byte[] tag) {
        StringBuilder text = new StringBuilder(TAG_BYTES);
        for (byte b : tag) {
            if (b == 0) {
                break;
            }
            text.append(b > 0x20 && b < 0x7f ? new String(new byte[] {b}, StandardCharsets.US_ASCII) : "?");
        }
        return text.toString();
    }

    /**
     * Whether the tag tells one blob from another. A UUID of zeros does not: {@code mkfs.erofs -Uclear} gives it to
     * every layer.
     */
    public boolean isTagged() {
        return !tag.isEmpty() && !tag.chars().allMatch(c -> c == '0');
    }

    /** The block behind the blob's last. */
    public long endBlock() {
        return block + blocks;
    }

    DeviceSlot at(long newBlock, long newBlocks) {
        return new DeviceSlot(number, tag, newBlock, newBlocks);
    }
}

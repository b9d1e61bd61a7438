// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/**
 * Writes small EROFS metadata images with any device table and any chunks, sound or not: superblock, table, root
 * directory, chunk-based files.
 */
public final class ErofsBuilder {
    /** A chunk of a file, as its index says. */
    public record Chunk(int device, long block) {}

    private record Slot(String tag, long block, long blocks) {}

    private record File(String name, long size, int chunkBits, List<Chunk> chunks) {}

    private final int blockBits;
    private final List<Slot> slots = new ArrayList<>();
    private final List<File> files = new ArrayList<>();
    private int incompat = 0xc;
    private int compat = 1;
    private long blocks = -1;
    private int padding;

    public ErofsBuilder(int blockBits) {
        this.blockBits = blockBits;
    }

    public ErofsBuilder slot(String tag, long block, long blockCount) {
        slots.add(new Slot(tag, block, blockCount));
        return this;
    }

    /** @param chunkBits log2 of the blocks of a chunk */
    public ErofsBuilder file(String name, long size, int chunkBits, List<Chunk> chunks) {
        files.add(new File(name, size, chunkBits, List.copyOf(chunks)));
        return this;
    }

    public ErofsBuilder incompat(int bits) {
        incompat = bits;
        return this;
    }

    public ErofsBuilder compat(int bits) {
        compat = bits;
        return this;
    }

    /** What the superblock says instead of the truth. */
    public ErofsBuilder blocks(long count) {
        blocks = count;
        return this;
    }

    /** Zeros behind the last structure. */
    public ErofsBuilder padding(int bytes) {
        padding = bytes;
        return this;
    }

    private boolean wide() {
        return (incompat & Superblock.INCOMPAT_48BIT) != 0;
    }

    /** Bytes of the metadata before {@link #padding}: what {@link #build} will make. */
    public byte[] build() {
        int blockSize = 1 << blockBits;
        int inodes = up(1152 + slots.size() * DeviceSlot.BYTES, 32);
        int at = inodes + 64;
        List<Integer> inodeAt = new ArrayList<>();
        List<File> sorted =
                files.stream().sorted(Comparator.comparing(File::name)).toList();
        for (File file : sorted) {
            inodeAt.add(at);
            at = up(at + 64 + 8 * file.chunks.size(), 32);
        }
        int directory = up(at, blockSize);
        byte[] entries = directory(sorted, inodeAt, inodes / 32, blockSize);
        int total = up(directory + entries.length + padding, blockSize);
        ByteBuffer b = ByteBuffer.allocate(Math.max(total, 4096)).order(ByteOrder.LITTLE_ENDIAN);
        total = b.capacity();
        superblock(b, inodes / 32, blocks >= 0 ? blocks : total >> blockBits, sorted.size() + 1);
        for (int i = 0; i < slots.size(); i++) {
            Slot slot = slots.get(i);
            int slotAt = 1152 + i * DeviceSlot.BYTES;
            b.put(slotAt, slot.tag.getBytes(StandardCharsets.US_ASCII));
            b.putInt(slotAt + 64, (int) slot.blocks).putInt(slotAt + 68, (int) slot.block);
            if (wide()) {
                b.putShort(slotAt + 72, (short) (slot.blocks >> 32)).putShort(slotAt + 74, (short) (slot.block >> 32));
            }
        }
        inode(b, inodes, 0, 040755, entries.length, directory >> blockBits);
        b.put(directory, entries);
        for (int i = 0; i < sorted.size(); i++) {
            File file = sorted.get(i);
            inode(b, inodeAt.get(i), 4, 0100644, file.size, file.chunkBits | 0x20 | (wide() ? 0x40 : 0));
            int index = inodeAt.get(i) + 64;
            for (Chunk chunk : file.chunks) {
                b.putShort(index, (short) (chunk.block >> 32));
                b.putShort(index + 2, (short) chunk.device);
                b.putInt(index + 4, (int) chunk.block);
                index += 8;
            }
        }
        byte[] image = b.array();
        if ((compat & 1) != 0) {
            sign(image);
        }
        return image;
    }

    /** Makes the checksum right. */
    public static void sign(byte[] image) {
        try {
            ByteBuffer.wrap(image).order(ByteOrder.LITTLE_ENDIAN).putInt(1028, (int)
                    Superblock.checksum("image", image, 1 << image[1024 + 12]));
        } catch (java.io.IOException e) {
            throw new IllegalArgumentException(e);
        }
    }

    private void superblock(ByteBuffer b, int rootNid, long blockCount, int inodeCount) {
        b.putInt(1024, Superblock.MAGIC).putInt(1024 + 8, compat);
        b.put(1024 + 12, (byte) blockBits);
        b.putShort(1024 + 14, (short) (wide() ? blockCount >> 32 : rootNid));
        b.putLong(1024 + 16, inodeCount);
        b.putInt(1024 + 36, (int) blockCount);
        b.putInt(1024 + 80, incompat);
        b.putShort(1024 + 86, (short) slots.size());
        b.putShort(1024 + 88, (short) 9);
        b.putLong(1024 + 112, wide() ? rootNid : 0);
    }

    private static void inode(ByteBuffer b, int at, int layout, int mode, long size, int unionValue) {
        b.putShort(at, (short) (1 | layout << 1)).putShort(at + 4, (short) mode);
        b.putLong(at + 8, size).putInt(at + 16, unionValue).putInt(at + 44, 1);
    }

    private static byte[] directory(List<File> files, List<Integer> inodeAt, int root, int blockSize) {
        List<String> names = new ArrayList<>(List.of(".", ".."));
        List<Integer> nids = new ArrayList<>(List.of(root, root));
        List<Integer> types = new ArrayList<>(List.of(2, 2));
        for (int i = 0; i < files.size(); i++) {
            names.add(files.get(i).name);
            nids.add(inodeAt.get(i) / 32);
            types.add(1);
        }
        ByteBuffer out = ByteBuffer.allocate((names.size() * 40 / blockSize + 2) * blockSize * 2)
                .order(ByteOrder.LITTLE_ENDIAN);
        int first = 0;
        int blockAt = 0;
        int end = 0;
        while (first < names.size()) {
            int count = 0;
            int bytes = 0;
            while (first + count < names.size()
                    && bytes + 12 + names.get(first + count).length() <= blockSize) {
                bytes += 12 + names.get(first + count).length();
                count++;
            }
            int nameAt = 12 * count;
            for (int i = 0; i < count; i++) {
                int at = blockAt + 12 * i;
                byte[] name = names.get(first + i).getBytes(StandardCharsets.US_ASCII);
                out.putLong(at, nids.get(first + i)).putShort(at + 8, (short) nameAt);
                out.put(at + 10, types.get(first + i).byteValue());
                out.put(blockAt + nameAt, name);
                nameAt += name.length;
            }
            end = blockAt + nameAt;
            first += count;
            blockAt += blockSize;
        }
        byte[] entries = new byte[end];
        out.get(0, entries);
        return entries;
    }

    private static int up(int value, int unit) {
        return (value + unit - 1) & -unit;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Map;

/** Writers of {@code COWD} and {@code seSparse} extents, from facts/vmdisk.md alone: no other tool makes them. */
final class EsxBuilder {
    private static final int SECTOR = 512;

    private EsxBuilder() {}

    /** @param grains each of {@code grain} sectors, by number */
    static byte[] cowd(int capacity, int grain, Map<Integer, byte[]> grains) {
        int total = (capacity + grain - 1) / grain;
        int tables = (total + 4095) / 4096;
        int gdSectors = (tables * 4 + SECTOR - 1) / SECTOR;
        int next = 4 + gdSectors;
        ByteBuffer b = little((next + tables * 32 + grains.size() * grain) * SECTOR);
        for (var entry : grains.entrySet()) {
            int slot = 4 * SECTOR + entry.getKey() / 4096 * 4;
            if (b.getInt(slot) == 0) {
                b.putInt(slot, next);
                next += 32;
            }
            b.putInt(b.getInt(slot) * SECTOR + entry.getKey() % 4096 * 4, next);
            b.put(next * SECTOR, entry.getValue());
            next += grain;
        }
        b.putInt(0, 0x44574f43)
                .putInt(4, 1)
                .putInt(8, 3)
                .putInt(12, capacity)
                .putInt(16, grain)
                .putInt(20, 4)
                .putInt(24, tables)
                .putInt(28, next);
        byte[] file = new byte[next * SECTOR];
        b.get(0, file);
        return file;
    }

    static final byte[] UNMAPPED = {1};
    static final byte[] ZERO = {2};

    /** @param grains of 4096 bytes, or {@link #UNMAPPED} or {@link #ZERO}, by number */
    static byte[] seSparse(long capacity, Map<Integer, byte[]> grains) {
        int total = (int) ((capacity + 7) / 8);
        int entries = (total + 4095) / 4096;
        int used = (int) grains.keySet().stream().map(i -> i / 4096).distinct().count();
        int gdSectors = ((entries * 8 + SECTOR - 1) / SECTOR + 7) / 8 * 8;
        int gd = 8;
        int gt = gd + gdSectors;
        int data = gt + used * 64;
        ByteBuffer b = little((data + grains.size() * 8) * SECTOR);
        long[] header = {
            0xcafebabeL,
            0x200000001L,
            capacity,
            8,
            64,
            0,
            0,
            0,
            0,
            0,
            1,
            1,
            2,
            2,
            4,
            2,
            gd,
            gdSectors,
            gt,
            used * 64L,
            6,
            1,
            7,
            1,
            data,
            grains.size() * 8L
        };
        for (int i = 0; i < header.length; i++) {
            b.putLong(i * 8, header[i]);
        }
        b.putLong(SECTOR, 0xcafecafeL);
        int nextTable = used; // descending, so that tables are not in the order of the disk
        long index = 0;
        for (var entry : grains.entrySet()) {
            int slot = gd * SECTOR + entry.getKey() / 4096 * 8;
            if (b.getLong(slot) == 0) {
                b.putLong(slot, 0x1000000000000000L | --nextTable);
            }
            int table = gt + (int) b.getLong(slot) * 64;
            long value;
            if (entry.getValue().length == 1) {
                value = (long) entry.getValue()[0] << 60;
            } else {
                value = 3L << 60 | (index & 0xfff) << 48 | index >> 12;
                b.put((int) (data + index * 8) * SECTOR, entry.getValue());
                index++;
            }
            b.putLong(table * SECTOR + entry.getKey() % 4096 * 8, value);
        }
        byte[] file = new byte[b.capacity()];
        b.get(0, file);
        return file;
    }

    private static ByteBuffer little(int bytes) {
        return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }
}

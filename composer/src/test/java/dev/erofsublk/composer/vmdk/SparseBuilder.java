// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Random;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.zip.Deflater;

/**
 * A second writer of {@code KDMV} extents, from facts/vmdisk.md alone, which makes what {@code qemu-img} cannot:
 * markers, footers, zeroed grains anywhere, short last grains, one directory or two.
 */
final class SparseBuilder {
    static final int SECTOR = 512;
    static final int GTES = 512;

    final long capacity;
    final int grain;
    int version = 1;
    boolean redundant = true;
    boolean compressed;
    boolean markers = true;
    boolean footer;
    boolean padShortGrain = true;
    int level = 6;
    String descriptor;
    final TreeMap<Integer, byte[]> stored = new TreeMap<>();
    final TreeSet<Integer> zeroed = new TreeSet<>();

    /** Where things came to lie, in sectors; known after {@link #build}. */
    long gd;

    long rgd;
    long footerSector;
    private final TreeMap<Integer, Long> tableSectors = new TreeMap<>();
    private final TreeMap<Integer, Long> grainSectors = new TreeMap<>();

    private byte[] file = new byte[0];
    private ByteBuffer out = ByteBuffer.wrap(file);

    SparseBuilder(long capacity, int grain, String name) {
        this.capacity = capacity;
        this.grain = grain;
        descriptor = descriptor("monolithicSparse", "RW " + capacity + " SPARSE \"" + name + "\"", "1234abcd", "");
    }

    static String descriptor(String type, String extents, String cid, String parent) {
        return "# Disk DescriptorFile\nversion=1\nCID=" + cid + "\n"
                + (parent.isEmpty() ? "parentCID=ffffffff\n" : parent + "\n")
                + "createType=\"" + type + "\"\n\n# Extent description\n" + extents
                + "\n\n# The Disk Data Base\n#DDB\n\nddb.adapterType = \"ide\"\n";
    }

    /** Random bytes in every grain for which {@code random} says so, half of them compressible. */
    SparseBuilder fill(Random random, int percent) {
        for (int i = 0; i < grains(); i++) {
            if (random.nextInt(100) < percent) {
                byte[] data = new byte[grain * SECTOR];
                random.nextBytes(data);
                if (random.nextBoolean()) {
                    Arrays.fill(data, 64, data.length, data[0]);
                }
                stored.put(i, data);
            }
        }
        return this;
    }

    int grains() {
        return (int) ((capacity + grain - 1) / grain);
    }

    int tables() {
        return (grains() + GTES - 1) / GTES;
    }

    /** What a right reader gives, over {@code parent} (which may be shorter). */
    byte[] expected(byte[] parent) {
        byte[] disk = Arrays.copyOf(parent, (int) capacity * SECTOR);
        for (int z : zeroed) {
            int end = Math.min((z + 1) * grain * SECTOR, disk.length);
            Arrays.fill(disk, z * grain * SECTOR, end, (byte) 0);
        }
        stored.forEach((i, data) -> System.arraycopy(
                data, 0, disk, i * grain * SECTOR, Math.min(data.length, disk.length - i * grain * SECTOR)));
        return disk;
    }

    byte[] expected() {
        return expected(new byte[0]);
    }

    /** The byte at which table {@code table} of the first directory starts. */
    int tableAt(int table) {
        return (int) (tableSectors.getOrDefault(table, 0L) * SECTOR);
    }

    /** The byte at which stored grain {@code index}, or its marker, starts. */
    int grainAt(int index) {
        return (int) (grainSectors.getOrDefault(index, 0L) * SECTOR);
    }

    byte[] build() {
        long next = 1;
        if (!descriptor.isEmpty()) {
            put(next, descriptor.getBytes(StandardCharsets.US_ASCII));
            next += 20;
        }
        if (redundant) {
            rgd = next;
            next = layTables(next, rgd, false);
        }
        if (!footer) {
            gd = next;
            next = layTables(next, gd, true);
        }
        long overHead = (next + grain - 1) / grain * grain;
        next = overHead;
        int table = -1;
        for (var entry : stored.entrySet()) {
            if (footer && entry.getKey() / GTES != table) {
                next = appendTable(table, next);
                table = entry.getKey() / GTES;
            }
            grainSectors.put(entry.getKey(), next);
            next = compressed
                    ? putCompressed(entry.getKey(), entry.getValue(), next)
                    : putPlain(entry.getValue(), next);
        }
        if (footer) {
            next = appendTable(table, next);
            next = appendDirectory(next, overHead);
        } else {
            fillTables(gd);
            if (redundant) {
                fillTables(rgd);
            }
            if (compressed && markers) {
                marker(next, 0, 0);
                next++;
            }
        }
        putHeader(0, footer ? -1 : gd, overHead);
        return Arrays.copyOf(file, (int) (next * SECTOR));
    }

    private long directorySectors() {
        return (tables() * 4L + SECTOR - 1) / SECTOR;
    }

    private long layTables(long at, long directory, boolean remember) {
        long next = at + directorySectors();
        for (int t = 0; t < tables(); t++) {
            buffer(directory + directorySectors(), 0).putInt((int) (directory * SECTOR + t * 4L), (int) next);
            if (remember) {
                tableSectors.put(t, next);
            }
            next += 4;
        }
        return next;
    }

    private void fillTables(long directory) {
        for (int i = 0; i < grains(); i++) {
            int table = out.getInt((int) (directory * SECTOR + i / GTES * 4L));
            int entry = zeroed.contains(i) ? 1 : (int) (long) grainSectors.getOrDefault(i, 0L);
            buffer(table + 4L, 0).putInt(table * SECTOR + i % GTES * 4, entry);
        }
    }

    private long appendTable(int table, long at) {
        if (table < 0) {
            return at;
        }
        marker(at, 4, 1);
        tableSectors.put(table, at + 1);
        for (int i = table * GTES; i < Math.min((table + 1) * GTES, grains()); i++) {
            int entry = zeroed.contains(i) ? 1 : (int) (long) grainSectors.getOrDefault(i, 0L);
            buffer(at + 5, 0).putInt((int) ((at + 1) * SECTOR) + i % GTES * 4, entry);
        }
        return at + 5;
    }

    private long appendDirectory(long at, long overHead) {
        marker(at, directorySectors(), 2);
        gd = at + 1;
        tableSectors.forEach((t, sector) ->
                buffer(gd + directorySectors(), 0).putInt((int) (gd * SECTOR) + t * 4, (int) (long) sector));
        long next = gd + directorySectors();
        marker(next, 1, 3);
        footerSector = next + 1;
        putHeader(footerSector, gd, overHead);
        marker(next + 2, 0, 0);
        return next + 3;
    }

    private void marker(long at, long sectors, int type) {
        buffer(at + 1, 0).putLong((int) at * SECTOR, sectors).putInt((int) at * SECTOR + 12, type);
    }

    private long putPlain(byte[] data, long at) {
        put(at, data);
        return at + grain;
    }

    private long putCompressed(int index, byte[] data, long at) {
        int length =
                padShortGrain ? data.length : (int) Math.min(data.length, (capacity - (long) index * grain) * SECTOR);
        Deflater deflater = new Deflater(level);
        deflater.setInput(data, 0, length);
        deflater.finish();
        byte[] packed = new byte[2 * data.length];
        int size = deflater.deflate(packed);
        deflater.end();
        int head = markers ? 12 : 0;
        ByteBuffer bytes = ByteBuffer.allocate(head + size).order(ByteOrder.LITTLE_ENDIAN);
        if (markers) {
            bytes.putLong((long) index * grain).putInt(size);
        }
        put(at, bytes.put(packed, 0, size).array());
        return at + (head + size + SECTOR - 1) / SECTOR;
    }

    private void putHeader(long sector, long gdOffset, long overHead) {
        header(buffer(sector + 1, 0), (int) sector * SECTOR, rgd, gdOffset, overHead);
    }

    /** Writes a header at byte {@code at} of {@code to}. */
    void header(ByteBuffer to, int at, long rgdOffset, long gdOffset, long overHead) {
        int flags = 1
                | (redundant ? 2 : 0)
                | (zeroed.isEmpty() ? 0 : 4)
                | (compressed ? 1 << 16 : 0)
                | (compressed && markers ? 1 << 17 : 0);
        to.putInt(at, 0x564d444b)
                .putInt(at + 4, zeroed.isEmpty() ? version : Math.max(2, version))
                .putInt(at + 8, flags)
                .putLong(at + 12, capacity)
                .putLong(at + 20, grain)
                .putLong(at + 28, descriptor.isEmpty() ? 0 : 1)
                .putLong(at + 36, descriptor.isEmpty() ? 0 : 20)
                .putInt(at + 44, GTES)
                .putLong(at + 48, redundant ? rgdOffset : 0)
                .putLong(at + 56, gdOffset)
                .putLong(at + 64, overHead)
                .putInt(at + 73, 0x0a0d200a)
                .putShort(at + 77, (short) (compressed ? 1 : 0));
    }

    private void put(long sector, byte[] bytes) {
        buffer(sector, bytes.length).put((int) sector * SECTOR, bytes);
    }

    /** The file so far, large enough for {@code extra} bytes at {@code sector}. */
    private ByteBuffer buffer(long sector, int extra) {
        int needed = (int) (sector * SECTOR) + extra;
        if (needed > file.length) {
            file = Arrays.copyOf(file, Math.max(needed, file.length * 2));
            out = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN);
        }
        return out;
    }
}

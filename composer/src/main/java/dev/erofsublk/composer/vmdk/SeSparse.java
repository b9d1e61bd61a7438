// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static dev.erofsublk.composer.vmdk.SectorFile.U64;

import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.BitSet;

/**
 * A space-efficient sparse extent of ESXi 6.5 and newer: grains of 4 KiB, 64-bit entries.
 *
 * <pre>
 *   u64   0 magic cafebabe   1 version 2.1   2 capacity   3 grain size 8   4 table size 64   5 flags   6-9 reserved
 *        10 volatile header  12 journal header  14 journal  16 directory  18 tables  20 free bitmap  22 back map
 *        24 grains           each an offset and a size in sectors; zeros up to byte 512
 *   directory entry   0, or 0x10000000 and the table's index
 *   table entry       0 absent, nibble 1 unmapped, nibble 2 zeros, nibble 3 and the grain's index
 * </pre>
 *
 * What is known of it is known from QEMU's driver (facts/vmdisk.md §2). An extent whose journal has to be replayed is
 * refused, because nothing documents the journal.
 */
final class SeSparse {
    private static final long MAGIC = 0xcafebabeL;
    private static final long VOLATILE_MAGIC = 0xcafecafeL;
    private static final long VERSION = 0x0000000200000001L;
    static final long GRAIN_SECTORS = 8;
    private static final long TABLE_SECTORS = 64;
    private static final int TABLE_BYTES = (int) TABLE_SECTORS * Limits.SECTOR;
    private static final int TABLE_ENTRIES = TABLE_BYTES / Long.BYTES;
    private static final long TABLE_ALLOCATED = 0x10000000L;
    private static final String[] REGIONS = {
        "volatile header",
        "journal header",
        "journal",
        "grain directory",
        "grain tables",
        "free bitmap",
        "back map",
        "grains"
    };
    private static final int FIRST_REGION = 10;
    private static final int DIRECTORY = 3;
    private static final int TABLES = 4;
    private static final int GRAINS = 7;

    private final SectorFile file;
    private final Checks check;
    private final long capacity;
    private final long[] offsets = new long[REGIONS.length];
    private final long[] sizes = new long[REGIONS.length];

    private SeSparse(SectorFile file, MemorySegment header) throws ImageException {
        this.file = file;
        check = new Checks(file.name());
        word(header, 0, "magic", MAGIC);
        word(header, 1, "version", VERSION);
        capacity = header.getAtIndex(U64, 2);
        check.that(
                capacity > 0 && capacity <= Limits.DEVICE_SECTORS,
                "capacity",
                Long.toUnsignedString(capacity),
                "1 to 2^40 sectors");
        word(header, 3, "grainSize", GRAIN_SECTORS);
        word(header, 4, "grainTableSize", TABLE_SECTORS);
        word(header, 5, "flags", 0);
        for (int i = 6; i < FIRST_REGION; i++) {
            word(header, i, "reserved " + (i - 6), 0);
        }
        for (int i = 0; i < REGIONS.length; i++) {
            offsets[i] = header.getAtIndex(U64, FIRST_REGION + 2L * i);
            sizes[i] = header.getAtIndex(U64, FIRST_REGION + 2L * i + 1);
        }
        for (int i = FIRST_REGION + 2 * REGIONS.length; i < Limits.SECTOR / Long.BYTES; i++) {
            word(header, i, "padding", 0);
        }
    }

    private void word(MemorySegment header, int index, String field, long expected) throws ImageException {
        long found = header.getAtIndex(U64, index);
        check.that(found == expected, field, "0x" + Long.toHexString(found), "0x" + Long.toHexString(expected));
    }

    static SeSparse open(SectorFile file) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            SeSparse sparse = new SeSparse(file, file.read(arena, "seSparse header", 0, Limits.SECTOR));
            sparse.checkRegions();
            sparse.checkVolatileHeader(file.read(arena, "volatile header", sparse.offsets[0], Limits.SECTOR));
            return sparse;
        }
    }

    /** Sectors of the extent. */
    long capacity() {
        return capacity;
    }

    private void checkRegions() throws ImageException {
        for (int i = 0; i < REGIONS.length; i++) {
            boolean sane = offsets[i] >= 0 && sizes[i] >= 0 && offsets[i] + sizes[i] >= 0;
            check.that(sane, REGIONS[i], region(i), "sectors of the file");
            for (int j = 0; j < i; j++) {
                boolean apart = sizes[i] == 0
                        || sizes[j] == 0
                        || offsets[i] >= offsets[j] + sizes[j]
                        || offsets[j] >= offsets[i] + sizes[i];
                check.that(apart, REGIONS[i], region(i), "a place beside that of the " + REGIONS[j] + ", " + region(j));
            }
            check.that(sizes[i] == 0 || offsets[i] > 0, REGIONS[i], region(i), "a place behind the header");
        }
        for (int i : new int[] {DIRECTORY, TABLES, GRAINS}) {
            check.that(offsets[i] % GRAIN_SECTORS == 0, REGIONS[i], region(i), "an offset that is a multiple of 8");
        }
        check.that(sizes[0] > 0, REGIONS[0], region(0), "at least a sector");
        long bytes = tables() * Long.BYTES;
        check.that(
                tables() <= Limits.DIRECTORY_ENTRIES && (bytes + Limits.SECTOR - 1) / Limits.SECTOR <= sizes[DIRECTORY],
                REGIONS[DIRECTORY],
                region(DIRECTORY),
                "room for the " + tables() + " entries that the capacity needs");
        file.require(REGIONS[DIRECTORY], offsets[DIRECTORY], bytes);
    }

    private String region(int i) {
        return "at sector " + Long.toUnsignedString(offsets[i]) + " with " + Long.toUnsignedString(sizes[i]);
    }

    private void checkVolatileHeader(MemorySegment header) throws ImageException {
        word(header, 0, "volatile header magic", VOLATILE_MAGIC);
        word(header, 3, "replayJournal", 0);
        for (int i = 4; i < Limits.SECTOR / Long.BYTES; i++) {
            word(header, i, "volatile header padding", 0);
        }
    }

    private long tables() {
        long grains = (capacity + GRAIN_SECTORS - 1) / GRAIN_SECTORS;
        return (grains + TABLE_ENTRIES - 1) / TABLE_ENTRIES;
    }

    void lay(Overlay out) throws IOException {
        long end = out.size() + capacity * Limits.SECTOR;
        long tableBytes = TABLE_ENTRIES * GRAIN_SECTORS * Limits.SECTOR;
        BitSet used = new BitSet();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment directory = file.read(arena, REGIONS[DIRECTORY], offsets[DIRECTORY], tables() * Long.BYTES);
            MemorySegment table = arena.allocate(TABLE_BYTES, 8);
            for (long i = 0; i < tables(); i++) {
                long length = Math.min(tableBytes, end - out.size());
                long entry = directory.getAtIndex(U64, i);
                if (entry == 0) {
                    out.inherit(length);
                } else {
                    file.read(tableSector(i, entry, used), TABLE_BYTES, table);
                    layTable(i, table, out, out.size() + length);
                }
            }
        }
        // A directory that is not where the header says reads as empty if zeros are there.
        boolean orphans = used.isEmpty() && file.hasData(offsets[TABLES], offsets[TABLES] + TABLE_SECTORS);
        check.that(!orphans, REGIONS[DIRECTORY], region(DIRECTORY), "a directory of the tables that the file holds");
    }

    private long tableSector(long i, long entry, BitSet used) throws ImageException {
        long index = entry & 0xffffffffL;
        check.that(
                entry >>> 32 == TABLE_ALLOCATED && index < sizes[TABLES] / TABLE_SECTORS,
                "grain directory entry " + i,
                "0x" + Long.toHexString(entry),
                "0, or 0x10000000 and one of " + sizes[TABLES] / TABLE_SECTORS + " tables");
        long sector = offsets[TABLES] + index * TABLE_SECTORS;
        file.require("grain directory entry " + i, sector, TABLE_BYTES);
        check.that(!used.get((int) index), "grain directory entry " + i, "table " + index, "a table of its own");
        used.set((int) index); // at most the tables that fit into the file
        return sector;
    }

    private void layTable(long number, MemorySegment table, Overlay out, long end) throws ImageException {
        for (int i = 0; out.size() < end; i++) {
            long entry = table.getAtIndex(U64, i);
            long length = Math.min(GRAIN_SECTORS * Limits.SECTOR, end - out.size());
            switch ((int) (entry >>> 60)) {
                case 1, 2 -> out.zeros(length); // unmapped: discarded by the guest; zero: written as zeros
                case 3 -> out.data(length, file.blob(), grain(number, i, entry, length) * Limits.SECTOR);
                default -> {
                    check.that(
                            entry == 0,
                            "grain table " + number + " entry " + i,
                            "0x" + Long.toHexString(entry),
                            "0, or a type of 1, 2 or 3 in the highest 4 bits");
                    out.inherit(length);
                }
            }
        }
    }

    private long grain(long table, int i, long entry, long length) throws ImageException {
        // 12 bits of the index, its lowest, are stored above the other 48.
        long index = (entry & 0x0fff000000000000L) >>> 48 | (entry & 0x0000ffffffffffffL) << 12;
        long sector = offsets[GRAINS] + index * GRAIN_SECTORS;
        boolean inside = index < sizes[GRAINS] / GRAIN_SECTORS && file.holds(sector, length);
        check.that(
                inside,
                "grain table " + table + " entry " + i,
                "0x" + Long.toHexString(entry),
                "a grain within the file and its " + sizes[GRAINS] / GRAIN_SECTORS + " grains");
        return sector;
    }
}

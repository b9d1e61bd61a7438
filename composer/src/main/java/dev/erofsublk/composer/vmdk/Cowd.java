// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static dev.erofsublk.composer.vmdk.SectorFile.U32;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * A copy-on-write extent of ESX before version 6, and of VMDK 3 ({@code COWD}).
 *
 * <pre>
 *      0 "COWD"   4 u32 version 1   8 u32 flags 3   12 u32 capacity   16 u32 grain   20 u32 directory
 *     24 u32 directory entries   28 u32 next free sector   ...   1648 u32 dirty   ... 2048
 * </pre>
 *
 * Little-endian, in sectors; tables have 4096 entries (libyal's documentation, facts/vmdisk.md §2).
 *
 * @param capacity sectors of the extent
 * @param grainSize sectors of a grain, a power of two; usually 1
 */
record Cowd(SectorFile file, long capacity, long grainSize, long directory) {
    static final int MAGIC = 0x44574f43; // "COWD"
    static final int HEADER_SECTORS = 4;
    static final int TABLE_ENTRIES = 4096;
    private static final int SPARSE = 3;

    static Cowd open(SectorFile file) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment h = file.read(arena, "COWD header", 0, (long) HEADER_SECTORS * Limits.SECTOR);
            Checks check = new Checks(file.name());
            check.that(h.get(U32, 0) == MAGIC, "magic", Integer.toHexString(h.get(U32, 0)), "COWD");
            check.that(h.get(U32, 4) == 1, "version", Integer.toUnsignedString(h.get(U32, 4)), "1");
            check.that(h.get(U32, 8) == SPARSE, "flags", "0x" + Integer.toHexString(h.get(U32, 8)), "3");
            check.that(h.get(U32, 1648) == 0, "dirty", h.get(U32, 1648), "0: an extent that was closed by its writer");
            Cowd cowd = new Cowd(file, unsigned(h, 12), unsigned(h, 16), unsigned(h, 20));
            check.that(cowd.capacity > 0, "capacity", 0, "1 sector or more");
            check.that(
                    Long.bitCount(cowd.grainSize) == 1 && cowd.grainSize <= Limits.GRAIN_SECTORS,
                    "grainSize",
                    cowd.grainSize,
                    "a power of two, at most " + Limits.GRAIN_SECTORS + " sectors");
            long entries = cowd.shape().tables();
            check.that(unsigned(h, 24) == entries, "numGDEntries", unsigned(h, 24), entries + " for the capacity");
            return cowd;
        }
    }

    private static long unsigned(MemorySegment header, long at) {
        return Integer.toUnsignedLong(header.get(U32, at));
    }

    private GrainTables.Shape shape() {
        long grains = (capacity + grainSize - 1) / grainSize;
        long tables = (grains + TABLE_ENTRIES - 1) / TABLE_ENTRIES;
        long directoryEnd = directory + (tables * Integer.BYTES + Limits.SECTOR - 1) / Limits.SECTOR;
        return new GrainTables.Shape(
                grains,
                TABLE_ENTRIES,
                HEADER_SECTORS,
                directoryEnd,
                grainSize,
                capacity - (grains - 1) * grainSize,
                false);
    }

    void lay(Overlay out) throws IOException {
        GrainTables.Shape shape = shape();
        GrainTables tables = new GrainTables(file, shape);
        int[] entries = tables.directory("grain directory", directory);
        PlainGrains grains =
                new PlainGrains(out, file, grainSize * Limits.SECTOR, capacity * Limits.SECTOR, shape.lowestGrain());
        tables.walk("grain directory", entries, null, grains);
        long lowestTable = file.sectors();
        for (int table : entries) {
            lowestTable = table == 0 ? lowestTable : Math.min(lowestTable, Integer.toUnsignedLong(table));
        }
        grains.requireNothingElse(shape.lowestGrain(), lowestTable);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static dev.erofsublk.composer.vmdk.SectorFile.U32;
import static dev.erofsublk.composer.vmdk.SectorFile.U64;

import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/**
 * The two levels of 32-bit entries that say where the grains of a {@code KDMV} or {@code COWD} extent are.
 *
 * <pre>
 *   directory: u32 sector of a table, or 0      table: u32 sector of a grain, or 0 (absent)
 *                                                      1 (zeros) in both, where the header's flag says so
 * </pre>
 *
 * <p>Each table is read once, neighbours together, and nothing of it is kept: memory is a fixed buffer and the
 * directory. Where an extent has a second set of tables, the two are compared: a damaged table is replaced by its
 * twin, and two sound ones that differ are refused, because nothing tells which one is right.
 */
final class GrainTables {
    private static final int BUFFER_BYTES = 1 << 20;

    private final SectorFile file;
    private final Shape shape;
    private final int tableBytes;

    /**
     * What the header says about the tables.
     *
     * @param grains of the extent, the last of which may be short
     * @param tableEntries of a table, a power of two from 512
     * @param lowestTable the first sector at which a table may be
     * @param lowestGrain the first sector at which a grain may be; not below 2
     * @param grainSectors what a stored grain needs in the file at least, in sectors
     * @param lastGrainSectors what the last grain needs
     * @param zeroed whether entry 1 means zeros
     */
    record Shape(
            long grains,
            int tableEntries,
            long lowestTable,
            long lowestGrain,
            long grainSectors,
            long lastGrainSectors,
            boolean zeroed) {
        /** Entries of the directory. */
        long tables() {
            return (grains + tableEntries - 1) / tableEntries;
        }
    }

    GrainTables(SectorFile file, Shape shape) throws ImageException {
        this.file = file;
        this.shape = shape;
        tableBytes = shape.tableEntries * Integer.BYTES;
        new Checks(file.name())
                .that(
                        shape.tables() <= Limits.DIRECTORY_ENTRIES,
                        "capacity",
                        "one for " + shape.tables() + " grain tables",
                        "at most " + Limits.DIRECTORY_ENTRIES);
    }

    /**
     * Reads a directory and refuses one that cannot be right: tables outside the file, or over each other.
     *
     * @param name what messages call it
     */
    int[] directory(String name, long sector) throws IOException {
        long bytes = shape.tables() * Integer.BYTES;
        new Checks(file.name())
                .that(
                        sector >= shape.lowestTable,
                        name,
                        "at sector " + Long.toUnsignedString(sector),
                        "behind the header");
        file.require(name, sector, bytes);
        int[] directory = new int[(int) shape.tables()];
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment segment = file.read(arena, name, sector, bytes);
            MemorySegment.copy(segment, U32, 0, directory, 0, directory.length);
        }
        requireTablesApart(name, directory, sector, bytes);
        return directory;
    }

    private void requireTablesApart(String name, int[] directory, long sector, long bytes) throws ImageException {
        long[] starts =
                new long[(int) Arrays.stream(directory).filter(this::isTable).count()];
        int count = 0;
        for (int i = 0; i < directory.length; i++) {
            if (isTable(directory[i])) {
                long table = Integer.toUnsignedLong(directory[i]);
                if (table < shape.lowestTable || !file.holds(table, tableBytes)) {
                    throw new ImageException(
                            file.name(),
                            name + " entry " + i,
                            "sector " + table,
                            "a grain table behind the header and within the file's " + file.sectors() + " sectors");
                }
                starts[count++] = table;
            }
        }
        Arrays.sort(starts);
        long directoryEnd = sector + (bytes + Limits.SECTOR - 1) / Limits.SECTOR;
        long previousEnd = 0;
        for (int i = 0; i < starts.length; i++) {
            long end = starts[i] + tableBytes / Limits.SECTOR;
            if (starts[i] < previousEnd || (starts[i] < directoryEnd && end > sector)) {
                throw new ImageException(
                        file.name(),
                        name,
                        "one with a table at sector " + starts[i],
                        "tables that overlap neither each other nor the directory");
            }
            previousEnd = end;
        }
    }

    private boolean isTable(int entry) {
        return entry != 0 && !(entry == 1 && shape.zeroed);
    }

    /**
     * Hands all grains to {@code grains}.
     *
     * @param name what messages call the first directory
     * @param twin the second directory, if there is one
     */
    void walk(String name, int[] directory, int @Nullable [] twin, Grains grains) throws IOException {
        int atOnce = BUFFER_BYTES / tableBytes;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(BUFFER_BYTES, 8);
            MemorySegment twinBuffer = twin == null ? buffer : arena.allocate(BUFFER_BYTES, 8);
            for (int first = 0; first < directory.length; first += atOnce) {
                int end = Math.min(first + atOnce, directory.length);
                if (isEmpty(directory, first, end) && (twin == null || isEmpty(twin, first, end))) {
                    grains.absent(Math.min((long) end * shape.tableEntries, shape.grains)
                            - (long) first * shape.tableEntries);
                    continue;
                }
                read(directory, first, end, buffer);
                if (twin != null) {
                    read(twin, first, end, twinBuffer);
                }
                for (int table = first; table < end; table++) {
                    MemorySegment entries = entries(buffer, table - first, table);
                    requireEnd(table, buffer.asSlice((long) (table - first) * tableBytes, tableBytes), entries);
                    if (twin != null) {
                        entries = sound(name, table, entries, entries(twinBuffer, table - first, table));
                    } else {
                        check(name, table, entries);
                    }
                    hand(entries, grains);
                }
            }
        }
    }

    private static boolean isEmpty(int[] directory, int first, int end) {
        for (int i = first; i < end; i++) {
            if (directory[i] != 0) {
                return false;
            }
        }
        return true;
    }

    /** Reads the tables {@code [first, end)}, those that follow each other in the file with one read. */
    private void read(int[] directory, int first, int end, MemorySegment buffer) throws IOException {
        int i = first;
        while (i < end) {
            int run = 1;
            long at = (long) (i - first) * tableBytes;
            if (isTable(directory[i])) {
                while (i + run < end && directory[i + run] == directory[i] + run * (tableBytes / Limits.SECTOR)) {
                    run++;
                }
                long bytes = (long) run * tableBytes;
                file.readOrHole(Integer.toUnsignedLong(directory[i]), bytes, buffer.asSlice(at, bytes));
            } else {
                MemorySegment table = buffer.asSlice(at, tableBytes);
                table.fill((byte) 0);
                for (int entry = 0; directory[i] == 1 && entry < shape.tableEntries; entry++) {
                    table.setAtIndex(U32, entry, 1);
                }
            }
            i += run;
        }
    }

    /** The entries of the buffer's {@code index}-th table that lie within the extent; {@code table} is its number. */
    private MemorySegment entries(MemorySegment buffer, int index, int table) {
        long count = Math.min(shape.tableEntries, shape.grains - (long) table * shape.tableEntries);
        return buffer.asSlice((long) index * tableBytes, count * Integer.BYTES);
    }

    /** Entries behind the end of the extent would be of grains that the header's capacity or grain size lost. */
    private void requireEnd(int table, MemorySegment all, MemorySegment entries) throws ImageException {
        if (!shape.zeroed && entries.byteSize() < all.byteSize()) {
            new Checks(file.name())
                    .that(
                            SectorFile.allZero(all.asSlice(entries.byteSize())),
                            "grain table " + table,
                            "one with grains behind the end of the disk",
                            "none there, as the capacity and the grain size say");
        }
    }

    private MemorySegment sound(String name, int table, MemorySegment first, MemorySegment second)
            throws ImageException {
        if (first.mismatch(second) < 0) {
            check(name, table, first);
            return first;
        }
        try {
            check(name, table, first);
        } catch (ImageException damaged) {
            try {
                check(name, table, second);
                return second;
            } catch (ImageException alsoDamaged) {
                damaged.addSuppressed(alsoDamaged);
                throw damaged;
            }
        }
        try {
            check(name, table, second);
        } catch (ImageException damaged) {
            return first;
        }
        throw new ImageException(
                file.name(), "grain table " + table, "not the same in both directories", "two equal copies");
    }

    private void check(String name, int table, MemorySegment entries) throws ImageException {
        long count = entries.byteSize() / Integer.BYTES;
        long highest = file.sectors() - shape.grainSectors;
        for (long i = 0; i < count; i++) {
            long sector = Integer.toUnsignedLong(entries.getAtIndex(U32, i));
            if (sector == 0 || (sector >= shape.lowestGrain && sector <= highest) || (sector == 1 && shape.zeroed)) {
                continue;
            }
            boolean last = (long) table * shape.tableEntries + i == shape.grains - 1;
            if (!last || sector < shape.lowestGrain || sector > file.sectors() - shape.lastGrainSectors) {
                throw new ImageException(
                        file.name(),
                        "grain table " + table + " of the " + name + ", entry " + i,
                        "sector " + sector,
                        "a grain of " + shape.grainSectors + " sectors between " + shape.lowestGrain
                                + " and the file's end at " + file.sectors());
            }
        }
    }

    private static void hand(MemorySegment entries, Grains grains) throws ImageException {
        long count = entries.byteSize() / Integer.BYTES;
        long i = 0;
        while (i < count) {
            int entry = entries.getAtIndex(U32, i);
            if (entry != 0 && entry != 1) {
                grains.stored(Integer.toUnsignedLong(entry));
                i++;
                continue;
            }
            long start = i++;
            while (i < count && entries.getAtIndex(U32, i) == entry) {
                // Most of a sparse extent is this: two entries at a time.
                i += entry == 0 && i + 1 < count && entries.get(U64, i * Integer.BYTES) == 0 ? 2 : 1;
            }
            if (entry == 0) {
                grains.absent(i - start);
            } else {
                grains.zero(i - start);
            }
        }
    }
}

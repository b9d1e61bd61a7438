// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Set;

/**
 * The header of a hosted sparse extent, also of a stream-optimised one, and its copy at the end (the footer).
 *
 * <pre>
 *    0 "KDMV"   4 u32 version   8 u32 flags   12 u64 capacity   20 u64 grainSize   28 u64 descriptorOffset
 *   36 u64 descriptorSize   44 u32 numGTEsPerGT   48 u64 rgdOffset   56 u64 gdOffset   64 u64 overHead
 *   72 u8 uncleanShutdown   73 0A 20 0D 0A   77 u16 compressAlgorithm   79 zeros to 512
 * </pre>
 *
 * All numbers are little-endian, all sizes in sectors (VMware's Virtual Disk Format; facts/vmdisk.md §2).
 */
record SparseHeader(
        int version,
        int flags,
        long capacity,
        long grainSize,
        long descriptorOffset,
        long descriptorSize,
        int numGTEsPerGT,
        long rgdOffset,
        long gdOffset,
        long overHead,
        int compressAlgorithm) {
    static final int MAGIC = 0x564d444b; // "KDMV"
    static final int BYTES = 512;

    static final int VALID_NEWLINES = 1;
    static final int REDUNDANT_DIRECTORY = 1 << 1;
    static final int ZEROED_GRAINS = 1 << 2;
    static final int COMPRESSED = 1 << 16;
    static final int MARKERS = 1 << 17;
    private static final int KNOWN_FLAGS = VALID_NEWLINES | REDUNDANT_DIRECTORY | ZEROED_GRAINS | COMPRESSED | MARKERS;

    /** The {@code gdOffset} of a stream whose directory was not known yet when the header was written. */
    static final long GD_AT_END = -1;

    /** Entries of a grain table; the format allows no other number. */
    static final int TABLE_ENTRIES = 512;

    static final int DEFLATE = 1;
    static final int NEWLINES = 0x0a0d200a;
    private static final Set<Integer> VERSIONS = Set.of(1, 2, 3);

    /** Smallest grain of the format: 4 KiB. */
    private static final long MIN_GRAIN = 8;

    boolean has(int flag) {
        return (flags & flag) != 0;
    }

    /** A file with this header holds the descriptor of extents in other files, and no grains. */
    boolean isDescriptorOnly() {
        return capacity == 0 && descriptorOffset != 0;
    }

    long grainBytes() {
        return grainSize * Limits.SECTOR;
    }

    /** Grains of the extent; the last one may be short. */
    long grains() {
        return (capacity + grainSize - 1) / grainSize;
    }

    /** Reads the header at {@code sector}, and refuses values that no reader of the format agrees on. */
    static SparseHeader read(SectorFile file, long sector) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment h = file.read(arena, "sparse header", sector, BYTES);
            Checks check = new Checks(file.name());
            check.that(
                    h.get(SectorFile.U32, 0) == MAGIC, "magic", Integer.toHexString(h.get(SectorFile.U32, 0)), "KDMV");
            SparseHeader header = new SparseHeader(
                    h.get(SectorFile.U32, 4),
                    h.get(SectorFile.U32, 8),
                    h.get(SectorFile.U64, 12),
                    h.get(SectorFile.U64, 20),
                    h.get(SectorFile.U64, 28),
                    h.get(SectorFile.U64, 36),
                    h.get(SectorFile.U32, 44),
                    h.get(SectorFile.U64, 48),
                    h.get(SectorFile.U64, 56),
                    h.get(SectorFile.U64, 64),
                    Short.toUnsignedInt(h.get(SectorFile.U16, 77)));
            header.check(check);
            int unclean = Byte.toUnsignedInt(h.get(ValueLayout.JAVA_BYTE, 72));
            check.that(unclean == 0, "uncleanShutdown", unclean, "0: a disk that was closed by its writer");
            int newlines = h.get(SectorFile.U32, 73);
            check.that(
                    !header.has(VALID_NEWLINES) || newlines == NEWLINES,
                    "newline test",
                    Integer.toHexString(newlines),
                    "0a 20 0d 0a: the file went through a transfer that changed its bytes");
            return header;
        }
    }

    private void check(Checks check) throws ImageException {
        check.that(VERSIONS.contains(version), "version", Integer.toUnsignedString(version), "1, 2 or 3");
        check.that(
                (flags & ~KNOWN_FLAGS) == 0,
                "flags",
                "0x" + Integer.toHexString(flags),
                "only bits 0, 1, 2, 16 and 17");
        check.that(compressAlgorithm <= DEFLATE, "compressAlgorithm", compressAlgorithm, "0 or 1 (deflate)");
        check.that(
                has(COMPRESSED) == (compressAlgorithm == DEFLATE),
                "compressAlgorithm",
                compressAlgorithm,
                has(COMPRESSED) ? "1, since the flags say compressed" : "0, since the flags do not say compressed");
        check.that(
                !has(MARKERS) || has(COMPRESSED),
                "flags",
                "0x" + Integer.toHexString(flags),
                "markers only when compressed");
        if (isDescriptorOnly()) {
            return;
        }
        check.that(
                capacity > 0 && capacity <= Limits.DEVICE_SECTORS,
                "capacity",
                Long.toUnsignedString(capacity),
                "1 to 2^40 sectors");
        long maxGrain = has(COMPRESSED) ? Limits.COMPRESSED_GRAIN_SECTORS : Limits.GRAIN_SECTORS;
        check.that(
                grainSize >= MIN_GRAIN && grainSize <= maxGrain && Long.bitCount(grainSize) == 1,
                "grainSize",
                Long.toUnsignedString(grainSize),
                "a power of two from " + MIN_GRAIN + " to " + maxGrain + " sectors");
        check.that(
                numGTEsPerGT == TABLE_ENTRIES,
                "numGTEsPerGT",
                Integer.toUnsignedString(numGTEsPerGT),
                String.valueOf(TABLE_ENTRIES));
    }

    /** The two copies of a stream's header agree on everything but where the directory is. */
    void requireSame(SparseHeader footer, String file) throws ImageException {
        SparseHeader expected = new SparseHeader(
                version,
                flags,
                capacity,
                grainSize,
                descriptorOffset,
                descriptorSize,
                numGTEsPerGT,
                footer.rgdOffset,
                footer.gdOffset,
                overHead,
                compressAlgorithm);
        if (!footer.equals(expected)) {
            throw new ImageException(file, "footer", footer, "the values of the header: " + expected);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static dev.erofsublk.composer.vmdk.SectorFile.U32;
import static dev.erofsublk.composer.vmdk.SectorFile.U64;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Zeros;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.jspecify.annotations.Nullable;

/**
 * A sparse extent of the hosted products ({@code KDMV}): plain grains, or compressed ones in a stream.
 *
 * <pre>
 *   plain     header | descriptor | second directory, tables | directory, tables | grains ...
 *   stream    header | descriptor | marker grain, marker grain, ... marker table, ... marker directory | footer | EOS
 * </pre>
 */
final class HostedSparse {
    private static final int MARKER_FOOTER = 3;
    private static final int MARKER_DIRECTORY = 2;
    private static final int MARKER_END = 0;

    /** How far from the file's end the footer is looked for: some transfers pad the file. */
    private static final int FOOTER_SEARCH_SECTORS = 128;

    private static final String FIRST = "grain directory";
    private static final String SECOND = "redundant grain directory";

    private final SectorFile file;
    private final SparseHeader header;
    private final boolean fromFooter;

    private HostedSparse(SectorFile file, SparseHeader header, boolean fromFooter) {
        this.file = file;
        this.header = header;
        this.fromFooter = fromFooter;
    }

    /** Reads the header, and the footer that stands in for it. */
    static HostedSparse open(SectorFile file) throws IOException {
        SparseHeader header = SparseHeader.read(file, 0);
        boolean fromFooter = header.gdOffset() == SparseHeader.GD_AT_END && !header.isDescriptorOnly();
        if (fromFooter) {
            SparseHeader footer = SparseHeader.read(file, footer(file));
            header.requireSame(footer, file.name());
            header = footer;
        }
        if (!header.isDescriptorOnly()) {
            file.require("overHead", header.overHead(), 0);
        }
        return new HostedSparse(file, header, fromFooter);
    }

    SparseHeader header() {
        return header;
    }

    /** The sector of the footer: between a footer marker and an end-of-stream marker, the last things of the file. */
    private static long footer(SectorFile file) throws IOException {
        long last = file.sectors() - 1;
        long first = Math.max(3, last - FOOTER_SEARCH_SECTORS);
        if (last >= first) {
            try (Arena arena = Arena.ofConfined()) {
                long base = first - 2;
                MemorySegment tail = file.read(arena, "footer", base, (last + 1 - base) * Limits.SECTOR);
                for (long end = last; end >= first; end--) {
                    long at = (end - base) * Limits.SECTOR;
                    if (isMarker(tail, at, 0, MARKER_END)
                            && tail.get(U32, at - Limits.SECTOR) == SparseHeader.MAGIC
                            && isMarker(tail, at - 2 * Limits.SECTOR, 1, MARKER_FOOTER)) {
                        return end - 1;
                    }
                }
            }
        }
        throw new ImageException(
                file.name(),
                "footer",
                "missing",
                "a footer at the end, since the header says that the grain directory is there (is the file truncated?)");
    }

    private static boolean isMarker(MemorySegment bytes, long at, long sectors, int type) {
        return bytes.get(U64, at) == sectors && bytes.get(U32, at + 8) == 0 && bytes.get(U32, at + 12) == type;
    }

    /** The text of the descriptor inside. */
    byte[] descriptor() throws IOException {
        long size = header.descriptorSize();
        Checks check = new Checks(file.name());
        check.that(
                header.descriptorOffset() != 0,
                "descriptorOffset",
                0,
                "a file that holds a descriptor (open the descriptor that names this extent instead)");
        check.that(
                size > 0 && size <= Limits.DESCRIPTOR_BYTES / Limits.SECTOR,
                "descriptorSize",
                Long.toUnsignedString(size),
                "1 to " + Limits.DESCRIPTOR_BYTES / Limits.SECTOR + " sectors");
        try (Arena arena = Arena.ofConfined()) {
            long bytes = size * Limits.SECTOR;
            MemorySegment text = file.read(arena, "descriptor", header.descriptorOffset(), bytes);
            byte[] content = text.toArray(ValueLayout.JAVA_BYTE);
            requireWhole(check, content);
            return content;
        }
    }

    /** A size that is too small would cut lines off, extents among them: then text goes on behind it. */
    private void requireWhole(Checks check, byte[] text) throws IOException {
        if (text[text.length - 1] == 0) {
            return;
        }
        long next = header.descriptorOffset() + header.descriptorSize();
        if (file.holds(next, 1)) {
            try (Arena arena = Arena.ofConfined()) {
                byte b = file.read(arena, "descriptor", next, 1).get(ValueLayout.JAVA_BYTE, 0);
                boolean goesOn = (b >= ' ' && b < 0x7f) || b == '\n' || b == '\r' || b == '\t';
                check.that(!goesOn, "descriptorSize", header.descriptorSize(), "a size that holds all of the text");
            }
        }
    }

    /**
     * Lays the extent.
     *
     * @param files whose cache compressed grains are decoded into
     */
    void lay(Overlay out, OpenFiles files) throws IOException {
        if (header.isDescriptorOnly()) {
            throw new ImageException(file.name(), "capacity", 0, "the extent that the descriptor promises");
        }
        long bytes = header.capacity() * Limits.SECTOR;
        if (!header.has(SparseHeader.COMPRESSED)) {
            PlainGrains grains = new PlainGrains(out, file, header.grainBytes(), bytes, header.overHead());
            if (!walk(grains)) {
                grains.requireNothingElse(header.overHead(), file.sectors());
            }
            return;
        }
        CompressedGrains grains = new CompressedGrains(header.grains());
        walk(grains);
        if (grains.count() == 0) {
            requireNoGrain();
            grains.lay(out, Zeros.INSTANCE, header.grainBytes(), bytes);
            return;
        }
        if (header.has(SparseHeader.MARKERS)) {
            requireOwnMarker(grains);
        }
        grains.lay(out, files.decoded(new GrainDecoder(file, header, grains)), header.grainBytes(), bytes);
    }

    /** Hands all grains to {@code grains}; returns whether a second directory confirmed the first. */
    private boolean walk(Grains grains) throws IOException {
        boolean compressed = header.has(SparseHeader.COMPRESSED);
        long lastSectors = header.capacity() - (header.grains() - 1) * header.grainSize();
        GrainTables tables = new GrainTables(
                file,
                new GrainTables.Shape(
                        header.grains(),
                        SparseHeader.TABLE_ENTRIES,
                        1,
                        Math.max(2, header.overHead()),
                        compressed ? 0 : header.grainSize(), // how long a compressed one is, only its marker knows
                        compressed ? 0 : lastSectors,
                        header.has(SparseHeader.ZEROED_GRAINS)));
        int @Nullable [] twin = twin(tables);
        int[] directory;
        try {
            directory = tables.directory(FIRST, header.gdOffset());
        } catch (ImageException damaged) {
            if (twin == null) {
                throw damaged;
            }
            tables.walk(SECOND, twin, null, grains);
            return false;
        }
        if (fromFooter && header.has(SparseHeader.MARKERS)) {
            requireDirectoryMarker();
        }
        tables.walk(FIRST, directory, twin, grains);
        return twin != null;
    }

    private int @Nullable [] twin(GrainTables tables) throws IOException {
        if (!header.has(SparseHeader.REDUNDANT_DIRECTORY)) {
            return null;
        }
        try {
            return tables.directory(SECOND, header.rgdOffset());
        } catch (ImageException damaged) {
            return null; // the first one is checked by itself
        }
    }

    private void requireDirectoryMarker() throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment marker = file.read(arena, FIRST, header.gdOffset() - 1, 16);
            new Checks(file.name())
                    .that(
                            marker.get(U32, 8) == 0 && marker.get(U32, 12) == MARKER_DIRECTORY,
                            "gdOffset",
                            header.gdOffset(),
                            "the sector behind a grain directory marker");
        }
    }

    /** A directory that is not where the header says reads as empty if zeros are there: then grains belong to nobody. */
    private void requireNoGrain() throws IOException {
        boolean grain = file.hasData(header.overHead(), file.sectors());
        if (grain && header.has(SparseHeader.MARKERS)) {
            try (Arena arena = Arena.ofConfined()) {
                grain = file.read(arena, FIRST, header.overHead(), 12).get(U32, 8) != 0; // other markers have no size
            }
        }
        new Checks(file.name())
                .that(!grain, "gdOffset", header.gdOffset(), "that of a directory with the grains that the file holds");
    }

    /** ... and if other entries are there, grains are not where they say they are: the first one tells. */
    private void requireOwnMarker(CompressedGrains grains) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            long lba = file.read(arena, "grain marker", grains.sector(0), Long.BYTES)
                    .get(U64, 0);
            new Checks(file.name())
                    .that(
                            lba == grains.number(0) * header.grainSize(),
                            "compressed grain of sector " + grains.number(0) * header.grainSize(),
                            "marked as that of sector " + Long.toUnsignedString(lba),
                            "its own sector");
        }
    }
}

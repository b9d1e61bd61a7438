// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static dev.erofsublk.composer.vmdk.SectorFile.U16;
import static dev.erofsublk.composer.vmdk.SectorFile.U32;
import static dev.erofsublk.composer.vmdk.SectorFile.U64;

import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Zeros;
import dev.erofsublk.composer.export.OutputFile;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.function.LongConsumer;
import java.util.zip.CRC32;
import java.util.zip.Deflater;

/**
 * Writes a device as one stream-optimised VMDK: the form in which virtual machines are shipped and imported.
 *
 * <pre>
 *   header | descriptor | grains of a table, its marker, the table | ... | marker, directory | marker, footer | end
 * </pre>
 *
 * Grains are 64 KiB, compressed with deflate; those of zeros are left out.
 */
public final class VmdkStreamWriter {
    private static final int GRAIN_SECTORS = 128;
    private static final int GRAIN_BYTES = GRAIN_SECTORS * Limits.SECTOR;
    private static final int TABLE_BYTES = SparseHeader.TABLE_ENTRIES * Integer.BYTES;
    private static final int DESCRIPTOR_SECTORS = 20;
    private static final int VERSION = 3;
    private static final int FLAGS = SparseHeader.VALID_NEWLINES | SparseHeader.COMPRESSED | SparseHeader.MARKERS;
    private static final int MARKER_TABLE = 1;
    private static final int MARKER_DIRECTORY = 2;
    private static final int MARKER_FOOTER = 3;
    private static final int MARKER_END = 0;

    private final FlatImage flat;
    private final String name;
    private final OutputFile file;
    private final Deflater deflater;
    private final CRC32 contentId = new CRC32();
    private final MemorySegment grain;
    private final MemorySegment encoded;
    private final MemorySegment table;
    private final MemorySegment directory;
    private long position = (long) GRAIN_SECTORS * Limits.SECTOR;
    private int cursor;

    private VmdkStreamWriter(FlatImage flat, String name, OutputFile file, Deflater deflater, Arena arena) {
        this.flat = flat;
        this.name = name;
        this.file = file;
        this.deflater = deflater;
        grain = arena.allocate(GRAIN_BYTES, 8);
        encoded = arena.allocate(2 * GRAIN_BYTES, 8);
        table = arena.allocate(TABLE_BYTES, 8);
        long tables = (grains() + SparseHeader.TABLE_ENTRIES - 1) / SparseHeader.TABLE_ENTRIES;
        directory = arena.allocate(sectorsUp(tables * Integer.BYTES), 8);
    }

    /**
     * Writes {@code target} at once and whole.
     *
     * @param replace whether an existing file may be replaced
     * @param level of compression, 1 (fast) to 9 (small)
     * @param progress gets the bytes of the device done so far
     * @throws ImageException if the device or the stream is larger than the format's 2^32 sectors
     */
    public static void write(FlatImage flat, Path target, boolean replace, int level, LongConsumer progress)
            throws IOException {
        requireSectors(target.toString(), flat.size());
        OutputFile.refuse(flat, target, replace);
        Deflater deflater = new Deflater(level);
        try (OutputFile file = new OutputFile(target, replace);
                Arena arena = Arena.ofConfined()) {
            new VmdkStreamWriter(flat, target.toString(), file, deflater, arena).write(progress);
            file.commit();
        } finally {
            deflater.end();
        }
    }

    private static void requireSectors(String name, long bytes) throws ImageException {
        if (bytes / Limits.SECTOR > 0xffffffffL) {
            throw new ImageException(name, "size", bytes + " bytes", "less than 2 TiB, as 32-bit sector numbers allow");
        }
    }

    private long grains() {
        return (flat.size() + GRAIN_BYTES - 1) / GRAIN_BYTES;
    }

    private void write(LongConsumer progress) throws IOException {
        for (long first = 0; first < grains(); first += SparseHeader.TABLE_ENTRIES) {
            writeTable(first);
            progress.accept(Math.min((first + SparseHeader.TABLE_ENTRIES) * GRAIN_BYTES, flat.size()));
        }
        writeMarker(directory.byteSize() / Limits.SECTOR, MARKER_DIRECTORY);
        long directorySector = position / Limits.SECTOR;
        append(directory);
        writeMarker(1, MARKER_FOOTER);
        append(header(directorySector));
        writeMarker(0, MARKER_END);
        file.write(header(SparseHeader.GD_AT_END), 0);
        writeDescriptor();
    }

    private void writeTable(long first) throws IOException {
        table.fill((byte) 0);
        boolean empty = true;
        long end = Math.min(first + SparseHeader.TABLE_ENTRIES, grains());
        for (long number = first; number < end; number++) {
            if (readGrain(number)) {
                requireSectors(name, position);
                table.setAtIndex(U32, number - first, (int) (position / Limits.SECTOR));
                writeGrain(number);
                empty = false;
            }
        }
        if (!empty) {
            writeMarker(TABLE_BYTES / Limits.SECTOR, MARKER_TABLE);
            requireSectors(name, position);
            directory.setAtIndex(U32, first / SparseHeader.TABLE_ENTRIES, (int) (position / Limits.SECTOR));
            append(table);
        }
    }

    /** Reads a grain, with zeros behind the end of the device; returns whether there is anything else in it. */
    private boolean readGrain(long number) throws IOException {
        long start = number * GRAIN_BYTES;
        long end = Math.min(start + GRAIN_BYTES, flat.size());
        while (flat.extent(cursor).end() <= start) {
            cursor++;
        }
        Extent first = flat.extent(cursor);
        if (first.source() == Zeros.INSTANCE && first.end() >= end) {
            return false;
        }
        grain.fill((byte) 0);
        for (long at = start; at < end; ) {
            Extent extent = flat.extent(cursor);
            long length = Math.min(extent.end(), end) - at;
            extent.source().read(extent.sourceOffset() + (at - extent.start()), grain.asSlice(at - start, length));
            at += length;
            if (at < end) {
                cursor++;
            }
        }
        return !SectorFile.allZero(grain);
    }

    private void writeGrain(long number) throws IOException {
        contentId.update(grain.asByteBuffer());
        deflater.reset();
        deflater.setInput(grain.asByteBuffer());
        deflater.finish();
        int size = deflater.deflate(encoded.asByteBuffer().position(12));
        encoded.set(U64, 0, number * GRAIN_SECTORS);
        encoded.set(U32, 8, size);
        long padded = sectorsUp(12L + size);
        encoded.asSlice(12L + size, padded - 12 - size).fill((byte) 0);
        append(encoded.asSlice(0, padded));
    }

    private void writeMarker(long sectors, int type) throws IOException {
        MemorySegment marker = encoded.asSlice(0, Limits.SECTOR).fill((byte) 0);
        marker.set(U64, 0, sectors);
        marker.set(U32, 12, type);
        append(marker);
    }

    private MemorySegment header(long directorySector) {
        MemorySegment h = encoded.asSlice(0, SparseHeader.BYTES).fill((byte) 0);
        h.set(U32, 0, SparseHeader.MAGIC);
        h.set(U32, 4, VERSION);
        h.set(U32, 8, FLAGS);
        h.set(U64, 12, flat.size() / Limits.SECTOR);
        h.set(U64, 20, GRAIN_SECTORS);
        h.set(U64, 28, 1);
        h.set(U64, 36, DESCRIPTOR_SECTORS);
        h.set(U32, 44, SparseHeader.TABLE_ENTRIES);
        h.set(U64, 56, directorySector);
        h.set(U64, 64, GRAIN_SECTORS);
        h.set(U32, 73, SparseHeader.NEWLINES);
        h.set(U16, 77, (short) SparseHeader.DEFLATE);
        return h;
    }

    private void writeDescriptor() throws IOException {
        String extent = "RDONLY %d SPARSE \"stream.vmdk\"\n".formatted(flat.size() / Limits.SECTOR);
        int id = (int) contentId.getValue();
        byte[] text = VmdkDescriptorWriter.text("streamOptimized", id, extent, flat.size())
                .getBytes(StandardCharsets.UTF_8);
        MemorySegment area =
                encoded.asSlice(0, (long) DESCRIPTOR_SECTORS * Limits.SECTOR).fill((byte) 0);
        MemorySegment.copy(text, 0, area, ValueLayout.JAVA_BYTE, 0, text.length);
        file.write(area, Limits.SECTOR);
        // What is between descriptor and grains reads as zeros.
    }

    private void append(MemorySegment bytes) throws IOException {
        file.write(bytes, position);
        position += bytes.byteSize();
    }

    private static long sectorsUp(long bytes) {
        return (bytes + Limits.SECTOR - 1) / Limits.SECTOR * Limits.SECTOR;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static dev.erofsublk.composer.vmdk.SectorFile.U32;
import static dev.erofsublk.composer.vmdk.SectorFile.U64;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.cache.CacheDirectory;
import dev.erofsublk.composer.cache.PieceDecoder;
import dev.erofsublk.composer.cache.Pieces;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/**
 * Decompresses grains of a stream-optimised extent: a piece is a grain, or as many as fill a page.
 *
 * <p>A grain is {@code u64 lba, u32 size} (where the header says that there are markers) and a zlib stream. Nothing of
 * it is checked when the image is opened, since that would read the whole file; all of it is checked here: that the
 * grain is the one it says it is, that the stream is complete and its Adler-32 right, and that it holds a grain.
 *
 * <p>Thread-safe.
 */
final class GrainDecoder implements PieceDecoder {
    private static final int MARKER_BYTES = 12;

    private final SectorFile file;
    private final SparseHeader header;
    private final CompressedGrains grains;
    private final int pieceBytes;

    GrainDecoder(SectorFile file, SparseHeader header, CompressedGrains grains) {
        this.file = file;
        this.header = header;
        this.grains = grains;
        pieceBytes = (int) Math.max(header.grainBytes(), Pieces.ALIGNMENT);
    }

    /** How the grains that are stored lie one behind the other. */
    Pieces pieces() {
        long bytes = grains.count() * header.grainBytes();
        return Pieces.uniform((bytes + pieceBytes - 1) / pieceBytes * pieceBytes, pieceBytes);
    }

    /** All that decides what the grains decode to, short of reading them: the file as it is, and where they are in it. */
    byte[] identity() {
        return "vmdk grains %d of %d in %s at %s"
                .formatted(
                        grains.count(),
                        header.grainBytes(),
                        file.blob().status(),
                        grains.digest(CacheDirectory.sha256()))
                .getBytes(StandardCharsets.US_ASCII);
    }

    @Override
    public String name() {
        return file.name();
    }

    @Override
    public void decode(int piece, Sink sink) throws IOException {
        Inflater inflater = new Inflater();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocate(pieceBytes, 8);
            int grainsPerPiece = (int) (pieceBytes / header.grainBytes());
            long first = (long) piece * grainsPerPiece;
            for (int i = 0; i < grainsPerPiece && first + i < grains.count(); i++) {
                inflater.reset();
                MemorySegment grain = bytes.asSlice(i * header.grainBytes(), header.grainBytes());
                inflate((int) (first + i), grain, inflater, arena);
            }
            sink.put(piece, bytes);
        } finally {
            inflater.end();
        }
    }

    @Override
    public void close() {} // the file is the image's

    private void inflate(int index, MemorySegment target, Inflater inflater, Arena arena) throws IOException {
        long lba = grains.number(index) * header.grainSize();
        MemorySegment encoded = encoded(index, lba, arena);
        int length = 0;
        try {
            inflater.setInput(encoded.asByteBuffer());
            length = inflater.inflate(target.asByteBuffer());
            if (!inflater.finished() && inflater.inflate(new byte[1]) > 0) {
                throw refused(lba, "more than " + target.byteSize() + " bytes", "at most a grain");
            }
        } catch (DataFormatException e) {
            throw refused(lba, "damaged (" + e.getMessage() + ")", "a zlib stream");
        }
        if (!inflater.finished()) {
            throw refused(lba, "cut off after " + length + " bytes", "a complete zlib stream");
        }
        long needed = Math.min(header.grainSize(), header.capacity() - lba) * Limits.SECTOR;
        if (length < needed) {
            throw refused(lba, length + " bytes", "at least " + needed + " bytes");
        }
    }

    private MemorySegment encoded(int index, long lba, Arena arena) throws IOException {
        long sector = grains.sector(index);
        long most = 2 * header.grainBytes(); // as in QEMU; deflate itself adds less than a thousandth
        long left = file.blob().size() - sector * Limits.SECTOR;
        if (!header.has(SparseHeader.MARKERS)) {
            return file.read(arena, field(lba), sector, Math.min(most, left));
        }
        MemorySegment marker = file.read(arena, field(lba), sector, MARKER_BYTES);
        long found = marker.get(U64, 0);
        if (found != lba) {
            throw refused(lba, "marked as that of sector " + Long.toUnsignedString(found), "its own sector");
        }
        long size = Integer.toUnsignedLong(marker.get(U32, 8));
        if (size == 0 || size > most || size > left - MARKER_BYTES) {
            throw refused(
                    lba,
                    size + " bytes",
                    "1 to " + most + " bytes within the file (is " + file.name() + " truncated?)");
        }
        return file.read(arena, field(lba), sector, MARKER_BYTES + size).asSlice(MARKER_BYTES);
    }

    private static String field(long lba) {
        return "compressed grain of sector " + lba;
    }

    private ImageException refused(long lba, String found, String expected) {
        return new ImageException(file.name(), field(lba), found, expected);
    }
}

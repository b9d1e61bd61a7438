// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import static java.nio.charset.StandardCharsets.US_ASCII;

import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Zeros;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.UUID;

/**
 * Writes a device as a fixed VHD: its bytes, and a footer behind them.
 *
 * <p>Zeros become holes of the file. It appears under its name only when it is complete and on the disk.
 */
public final class VhdWriter {
    /** The most that a VHD may have, in bytes: 2040 GiB. */
    public static final long MAX_SIZE = 2040L << 30;

    /** 2000-01-01 UTC, from which a footer counts its seconds. */
    private static final long EPOCH = 946_684_800;

    private static final String CREATOR = "eblk";
    private static final int FIXED = 2;
    private static final int PIECE = 1 << 20;
    /** What is looked at for zeros: the block of common file systems, so that nothing smaller could become a hole. */
    private static final int GRAIN = 4096;

    private VhdWriter() {}

    /**
     * Writes {@code image} with a new identity and the time of now.
     *
     * @param target the file, which is replaced if it exists
     * @throws ImageException if the device is larger than {@link #MAX_SIZE}
     * @throws IOException if a byte cannot be read or written; {@code target} is then as it was
     */
    public static void write(FlatImage image, Path target) throws IOException {
        write(image, target, UUID.randomUUID(), Instant.now());
    }

    /** The same with a given identity and time, for files that can be reproduced. */
    public static void write(FlatImage image, Path target, UUID uuid, Instant time) throws IOException {
        if (image.size() > MAX_SIZE) {
            throw new ImageException(
                    target.toString(), "size", image.size(), "at most " + MAX_SIZE + " bytes, the limit of VHD");
        }
        Path folder = target.toAbsolutePath().getParent();
        if (folder == null) {
            throw new IOException("not a file name: " + target);
        }
        Path partial = folder.resolve("." + target.getFileName() + "." + UUID.randomUUID() + ".partial");
        try {
            try (FileChannel out = FileChannel.open(partial, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
                copy(image, out);
                writeFully(out, footer(image.size(), uuid, time), image.size());
                out.force(true);
            }
            Files.move(partial, target, StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException | RuntimeException e) {
            Files.deleteIfExists(partial);
            throw e;
        }
        try (FileChannel directory = FileChannel.open(folder, StandardOpenOption.READ)) {
            directory.force(true);
        }
    }

    private static void copy(FlatImage image, FileChannel out) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment piece = arena.allocate(PIECE);
            MemorySegment zeros = arena.allocate(GRAIN);
            for (int i = 0; i < image.extentCount(); i++) {
                Extent extent = image.extent(i);
                if (extent.source() == Zeros.INSTANCE) {
                    continue;
                }
                for (long done = 0; done < extent.length(); done += PIECE) {
                    MemorySegment part = piece.asSlice(0, Math.min(PIECE, extent.length() - done));
                    extent.source().read(extent.sourceOffset() + done, part);
                    writeSparsely(out, part, zeros, extent.start() + done);
                }
            }
        }
    }

    /** Writes the runs of grains that are not zeros. */
    private static void writeSparsely(FileChannel out, MemorySegment part, MemorySegment zeros, long offset)
            throws IOException {
        long from = 0;
        for (long at = 0; at < part.byteSize(); at += GRAIN) {
            long length = Math.min(GRAIN, part.byteSize() - at);
            if (MemorySegment.mismatch(part, at, at + length, zeros, 0, length) < 0) {
                writeFully(out, part.asSlice(from, at - from).asByteBuffer(), offset + from);
                from = at + length;
            }
        }
        writeFully(out, part.asSlice(from).asByteBuffer(), offset + from);
    }

    private static void writeFully(FileChannel out, ByteBuffer bytes, long offset) throws IOException {
        long at = offset;
        while (bytes.hasRemaining()) {
            at += out.write(bytes, at);
        }
    }

    /**
     * The footer. Its geometry is the largest that there is, which tells every reader, whatever it thinks of the
     * creator, that the current size counts (facts/vmdisk.md §0.9).
     */
    private static ByteBuffer footer(long size, UUID uuid, Instant time) {
        ByteBuffer footer = ByteBuffer.allocate(Footer.BYTES);
        footer.put(0, Footer.COOKIE.getBytes(US_ASCII))
                .putInt(8, Footer.FEATURE_RESERVED)
                .putInt(12, Footer.VERSION)
                .putLong(16, -1)
                .putInt(24, (int) (time.getEpochSecond() - EPOCH))
                .put(28, CREATOR.getBytes(US_ASCII))
                .putInt(32, Footer.VERSION)
                .put(36, "Wi2k".getBytes(US_ASCII))
                .putLong(40, size)
                .putLong(48, size)
                .putShort(56, (short) Footer.MAX_CYLINDERS)
                .put(58, (byte) Footer.MAX_HEADS)
                .put(59, (byte) Footer.MAX_SECTORS)
                .putInt(60, FIXED)
                .putLong(68, uuid.getMostSignificantBits())
                .putLong(76, uuid.getLeastSignificantBits());
        return footer.putInt(Footer.CHECKSUM_AT, (int) Footer.checksum(footer, Footer.CHECKSUM_AT));
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import static java.nio.charset.StandardCharsets.US_ASCII;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.export.OutputFile;
import dev.erofsublk.composer.export.RawExport;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.time.Instant;
import java.util.UUID;
import java.util.function.LongConsumer;

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

    private VhdWriter() {}

    /**
     * Writes {@code image} with a new identity and the time of now.
     *
     * @param replace whether an existing file may be replaced
     * @param progress gets the bytes of the device done so far
     * @throws ImageException if the device is larger than {@link #MAX_SIZE}
     * @throws IOException if a byte cannot be read or written; {@code target} is then as it was
     */
    public static void write(FlatImage image, Path target, boolean replace, LongConsumer progress) throws IOException {
        write(image, target, replace, progress, UUID.randomUUID(), Instant.now());
    }

    /** The same with a given identity and time, for files that can be reproduced. */
    static void write(FlatImage image, Path target, boolean replace, LongConsumer progress, UUID uuid, Instant time)
            throws IOException {
        if (image.size() > MAX_SIZE) {
            throw new ImageException(
                    target.toString(), "size", image.size(), "at most " + MAX_SIZE + " bytes, the limit of VHD");
        }
        OutputFile.refuse(image, target, replace);
        try (OutputFile file = new OutputFile(target, replace)) {
            RawExport.copy(image, file, progress);
            file.write(footer(image.size(), uuid, time).array(), image.size());
            file.commit();
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

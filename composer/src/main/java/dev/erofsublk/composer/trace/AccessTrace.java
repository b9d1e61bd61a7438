// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.trace;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.FirstTouches;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.zip.CRC32C;

/**
 * Which units of an image were read, in order of first touch, as a file of text:
 *
 * <pre>
 *   erofs-ublk trace 1
 *   format erofs
 *   uuid 0f3e5a0e5f0c4f0e9b570d8f5a1f2c3d          or "-" where the image has none
 *   size 14127104                                    bytes of the device
 *   unit 65536                                       bytes of a unit
 *   runs 3
 *   0 4                                              units 0, 1, 2 and 3
 *   120                                              unit 120
 *   17 2
 *   crc32c 8f3a0c11                                  of all bytes before this line
 * </pre>
 *
 * <p>Lines end in one line feed, numbers are decimal without leading zeros. A file has at most {@value #MAX_BYTES} bytes
 * and a run at most {@value FirstTouches#MAX_COUNT} units.
 */
public final class AccessTrace {
    /** The most bytes of a file: more than {@link FirstTouches#MAX_RUNS} runs can need. */
    static final int MAX_BYTES = 8 << 20;

    private static final String FIRST_LINE = "erofs-ublk trace 1";
    private static final String CHECKSUM = "crc32c ";
    private static final int CHECKSUM_LINE_BYTES = CHECKSUM.length() + 8 + 1;

    private final ImageIdentity image;
    private final long[] runs;

    /** @param runs as {@link FirstTouches} has them, at most {@link FirstTouches#MAX_RUNS}; not copied */
    public AccessTrace(ImageIdentity image, long[] runs) {
        this.image = image;
        this.runs = runs;
    }

    /** The runs of units in order of first touch, as {@link FirstTouches#run}; not to be changed. */
    public long[] runs() {
        return runs;
    }

    /** How many units it names. */
    public long units() {
        long units = 0;
        for (long run : runs) {
            units += FirstTouches.count(run);
        }
        return units;
    }

    /**
     * Reads a trace of {@code image}.
     *
     * @throws ImageException if it is damaged or of another image
     * @throws IOException if it cannot be opened or read
     */
    public static AccessTrace read(Path file, ImageIdentity image) throws IOException {
        try (Blob blob = Blob.open(file);
                Arena arena = Arena.ofConfined()) {
            if (blob.size() > MAX_BYTES) {
                throw new ImageException(blob.name(), "size", blob.size() + " bytes", "at most " + MAX_BYTES);
            }
            MemorySegment bytes = arena.allocate(Math.max(1, blob.size()));
            blob.read(0, bytes.asSlice(0, blob.size()));
            return parse(blob.name(), bytes.asSlice(0, blob.size()).toArray(ValueLayout.JAVA_BYTE), image);
        }
    }

    /** @throws ImageException if {@code bytes} are no trace of {@code image} */
    static AccessTrace parse(String file, byte[] bytes, ImageIdentity image) throws ImageException {
        TraceLines lines = new TraceLines(file, bytes, Math.max(0, bytes.length - CHECKSUM_LINE_BYTES));
        lines.expect("first line", "", FIRST_LINE);
        int end = bytes.length - CHECKSUM_LINE_BYTES;
        String found = end < 0 ? "" : new String(bytes, end, CHECKSUM_LINE_BYTES, StandardCharsets.ISO_8859_1);
        String expected = checksum(bytes, Math.max(0, end));
        if (!found.equals(expected + "\n")) {
            throw new ImageException(file, "last line", "\"" + found + "\"", "\"" + expected + "\"");
        }
        lines.expect("format", "format ", image.format());
        lines.expect("uuid", "uuid ", text(image.uuid()));
        lines.expect("size", "size ", Long.toString(image.size()));
        lines.expect("unit", "unit ", Integer.toString(FirstTouches.UNIT_BYTES));
        // A run takes two bytes at least, so that the array is no more than four times the file.
        int count = (int) lines.number("runs", "runs ", Math.min(FirstTouches.MAX_RUNS, bytes.length / 2));
        long units = (image.size() + FirstTouches.UNIT_BYTES - 1) / FirstTouches.UNIT_BYTES;
        long[] runs = new long[count];
        for (int i = 0; i < count; i++) {
            runs[i] = lines.run(units);
        }
        lines.expectEnd();
        return new AccessTrace(image, runs);
    }

    private static String text(String uuid) {
        return uuid.isEmpty() ? "-" : uuid;
    }

    private static String checksum(byte[] bytes, int length) {
        CRC32C crc = new CRC32C();
        crc.update(bytes, 0, length);
        return CHECKSUM + "%08x".formatted(crc.getValue());
    }

    byte[] toBytes() {
        StringBuilder text = new StringBuilder();
        text.append(FIRST_LINE).append('\n');
        text.append("format ").append(image.format()).append('\n');
        text.append("uuid ").append(text(image.uuid())).append('\n');
        text.append("size ").append(image.size()).append('\n');
        text.append("unit ").append(FirstTouches.UNIT_BYTES).append('\n');
        text.append("runs ").append(runs.length).append('\n');
        for (long run : runs) {
            text.append(FirstTouches.first(run));
            if (FirstTouches.count(run) > 1) {
                text.append(' ').append(FirstTouches.count(run));
            }
            text.append('\n');
        }
        byte[] body = text.toString().getBytes(StandardCharsets.ISO_8859_1);
        return (text + checksum(body, body.length) + "\n").getBytes(StandardCharsets.ISO_8859_1);
    }

    /** Writes it to {@code file}, which has all of it and is on disk when this returns, or is as it was. */
    public void write(Path file) throws IOException {
        Path temporary = file.resolveSibling("." + file.getFileName() + ".new");
        Files.deleteIfExists(temporary); // of a process that was killed
        try {
            try (FileChannel channel =
                    FileChannel.open(temporary, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
                ByteBuffer bytes = ByteBuffer.wrap(toBytes());
                while (bytes.hasRemaining()) {
                    channel.write(bytes);
                }
                channel.force(true);
            }
            Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException e) {
            Files.deleteIfExists(temporary);
            throw e;
        }
    }
}

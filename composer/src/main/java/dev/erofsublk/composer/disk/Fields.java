// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.disk;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/**
 * One structure of an image file, field by field, with the words in which a field of it is refused.
 *
 * <p>The file is read through a {@link FlatImage}, because what a parser has to see is not always one file as it is: a
 * split image is several, and a log may have to be replayed over it first.
 *
 * @param file the file's name for messages
 * @param name the structure's name, for example {@code header 1}
 * @param bytes the structure, in the byte order of the format
 */
public record Fields(String file, String name, ByteBuffer bytes) {
    /** A refused offset is shown in this way: the byte where a structure should have been. */
    private static final String WITHIN = "inside the file";

    /**
     * Reads a structure.
     *
     * @param image the file
     * @param offset its first byte, from an untrusted header: any value
     * @param length bytes, bounded by the caller
     * @throws ImageException if it is not all inside the file
     */
    public static Fields read(FlatImage image, String file, String name, long offset, int length, ByteOrder order)
            throws IOException {
        if (offset < 0 || offset > image.size() - length) {
            throw new ImageException(
                    file,
                    name,
                    "%d bytes at byte %s of %d".formatted(length, Long.toUnsignedString(offset), image.size()),
                    WITHIN);
        }
        return new Fields(
                file, name, ByteBuffer.wrap(read(image, offset, length)).order(order));
    }

    /** Reads bytes that are known to lie inside the file. */
    public static byte[] read(FlatImage image, long offset, int length) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment segment = arena.allocate(Math.max(1, length)).asSlice(0, length);
            image.read(offset, segment);
            return segment.toArray(ValueLayout.JAVA_BYTE);
        }
    }

    public int length() {
        return bytes.capacity();
    }

    public int u16(int at) {
        return bytes.getShort(at) & 0xffff;
    }

    public long u32(int at) {
        return bytes.getInt(at) & 0xffffffffL;
    }

    /** The eight bytes at {@code at}; negative from 2^63 on. */
    public long u64(int at) {
        return bytes.getLong(at);
    }

    /** {@code count} bytes as Latin-1, for magic numbers that are words. */
    public String word(int at, int count) {
        byte[] word = new byte[count];
        bytes.get(at, word);
        return new String(word, StandardCharsets.ISO_8859_1);
    }

    /** Whether the bytes at {@code at} are this magic word. */
    public boolean has(int at, String word) {
        return at + word.length() <= length() && word(at, word.length()).equals(word);
    }

    /** The refusal of a field of this structure. */
    public ImageException refuse(String field, Object found, String expected) {
        return new ImageException(file, name + "." + field, found, expected);
    }

    /** The refusal of a 64-bit field, shown without a sign. */
    public ImageException refuse(String field, long found, String expected) {
        return refuse(field, (Object) Long.toUnsignedString(found), expected);
    }
}

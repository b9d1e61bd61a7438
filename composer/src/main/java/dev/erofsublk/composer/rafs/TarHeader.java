// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.erofsublk.composer.Blob;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/**
 * The header of a regular file in a tar archive, as far as blob files use it.
 *
 * @param name up to 100 characters
 * @param size bytes of the content
 */
record TarHeader(String name, long size) {
    private static final int BYTES = 512;

    /** The header in the last 512 bytes of {@code blob}, or null if they are none. */
    static @Nullable TarHeader atEnd(Blob blob, Arena arena) throws IOException {
        if (blob.size() < BYTES) {
            return null;
        }
        MemorySegment header = arena.allocate(BYTES, 8);
        blob.read(blob.size() - BYTES, header);
        byte type = header.get(JAVA_BYTE, 156);
        if (!BlobEntry.trimmed(header.asSlice(257, 5)).equals("ustar") || (type != '0' && type != 0)) {
            return null;
        }
        long size = octal(header.asSlice(124, 12));
        long checksum = octal(header.asSlice(148, 8));
        return size < 0 || checksum != sum(header)
                ? null
                : new TarHeader(BlobEntry.trimmed(header.asSlice(0, 100)), size);
    }

    /** A number in octal digits, or -1. */
    private static long octal(MemorySegment field) {
        long value = 0;
        boolean digits = false;
        for (long i = 0; i < field.byteSize(); i++) {
            byte c = field.get(JAVA_BYTE, i);
            if (c >= '0' && c <= '7') {
                value = value << 3 | (c - '0');
                digits = true;
            } else if (c == 0 || (c == ' ' && digits)) {
                break;
            } else if (c != ' ') {
                return -1;
            }
        }
        return digits ? value : -1;
    }

    /** The sum of all bytes, those of the checksum itself taken as spaces. */
    private static long sum(MemorySegment header) {
        long sum = 0;
        for (long i = 0; i < BYTES; i++) {
            sum += i >= 148 && i < 156 ? ' ' : header.get(JAVA_BYTE, i) & 0xff;
        }
        return sum;
    }
}

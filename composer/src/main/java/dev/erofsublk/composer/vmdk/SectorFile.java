// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/**
 * A file of sectors whose header is not trusted: what is asked of it is compared with its size before anything is
 * allocated or read.
 */
record SectorFile(Blob blob) {
    static final ValueLayout.OfShort U16 = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    static final ValueLayout.OfInt U32 = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    static final ValueLayout.OfLong U64 = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private static final long LOOK_SECTORS = 128;

    /** What messages call it. */
    String name() {
        return blob.name();
    }

    /** Whole sectors of the file. */
    long sectors() {
        return blob.size() / Limits.SECTOR;
    }

    /**
     * Refuses a range that the file does not hold.
     *
     * @param field what the range is, for the message
     * @param sector first sector; any value
     * @param bytes not negative
     */
    void require(String field, long sector, long bytes) throws ImageException {
        if (!holds(sector, bytes)) {
            throw new ImageException(
                    name(),
                    field,
                    "at sector " + Long.toUnsignedString(sector) + " with " + bytes + " bytes",
                    "a place within the file's " + blob.size() + " bytes (is it truncated?)");
        }
    }

    boolean holds(long sector, long bytes) {
        return sector >= 0 && sector <= sectors() && bytes <= blob.size() - sector * Limits.SECTOR;
    }

    /** Reads a range, which {@link #require} has accepted, into the start of {@code target}. */
    void read(long sector, long bytes, MemorySegment target) throws IOException {
        blob.read(sector * Limits.SECTOR, target.asSlice(0, bytes));
    }

    /** {@link #read} without reading a hole, which would fill the page cache with zeros: sparse disks are full of them. */
    void readOrHole(long sector, long bytes, MemorySegment target) throws IOException {
        if (Linux.isHole(blob.fd(), sector * Limits.SECTOR, bytes)) {
            target.asSlice(0, bytes).fill((byte) 0);
        } else {
            read(sector, bytes, target);
        }
    }

    /** {@link #require} and {@link #read} in one, into memory of {@code arena}. */
    MemorySegment read(Arena arena, String field, long sector, long bytes) throws IOException {
        require(field, sector, bytes);
        MemorySegment target = arena.allocate(bytes, 8);
        read(sector, bytes, target);
        return target;
    }

    /** Whether there is anything but zeros between two sectors; of a long range the first 64 KiB are looked at. */
    boolean hasData(long from, long to) throws IOException {
        long end = Math.min(Math.min(to, sectors()), from + LOOK_SECTORS);
        if (from < 0 || from >= end) {
            return false;
        }
        try (Arena arena = Arena.ofConfined()) {
            return !allZero(read(arena, "data", from, (end - from) * Limits.SECTOR));
        }
    }

    static boolean allZero(MemorySegment bytes) {
        long size = bytes.byteSize();
        return size == 0
                || (bytes.get(ValueLayout.JAVA_BYTE, 0) == 0
                        && MemorySegment.mismatch(bytes, 0, size - 1, bytes, 1, size) == -1);
    }
}

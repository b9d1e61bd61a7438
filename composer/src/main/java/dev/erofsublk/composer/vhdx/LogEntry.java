// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Optional;
import java.util.UUID;
import java.util.zip.CRC32C;

/**
 * An entry of the log: what was about to be written to the file in one step.
 *
 * <pre>
 *   @0 "loge"  @4 crc-32c of the entry with this field 0  @8 u32 EntryLength  @12 u32 Tail  @16 u64 SequenceNumber
 *   @24 u32 DescriptorCount  @28 0  @32 LogGuid  @48 u64 FlushedFileOffset  @56 u64 LastFileOffset
 *   @64 descriptors of 32 bytes, up to the end of their last sector of 4 KiB, and then the data sectors:
 *     "zero"  u32 0              u64 length         u64 FileOffset  u64 SequenceNumber
 *     "desc"  u32 trailing bytes u64 leading bytes  u64 FileOffset  u64 SequenceNumber
 *     data sector: "data"  u32 sequence, upper half  4084 bytes  u32 sequence, lower half
 * </pre>
 *
 * <p>The log is a ring of sectors and an entry may go round its end, but sectors and descriptors are never split.
 *
 * @param ring the whole log, little-endian
 * @param position byte of the log at which the entry begins, a multiple of 4096
 * @param length bytes, a multiple of 4096
 * @param tail position of the oldest entry that must be replayed with this one
 * @param flushedFileOffset the size that the file had at least when the entry was written
 * @param lastFileOffset the size that the file must have at least after replay
 */
record LogEntry(
        ByteBuffer ring,
        int position,
        int length,
        int tail,
        long sequence,
        int descriptors,
        long flushedFileOffset,
        long lastFileOffset) {
    static final int SECTOR = 4096;
    private static final int SIGNATURE = word("loge");
    private static final int ZERO = word("zero");
    private static final int DATA = word("desc");
    private static final int DATA_SECTOR = word("data");
    private static final int HEADER_BYTES = 64;
    private static final int DESCRIPTOR_BYTES = 32;

    /** The length that an entry at {@code position} claims to have if its header may be one; else 0. */
    static int plausibleLength(ByteBuffer ring, int position, UUID logGuid) {
        long length = ring.getInt(position + 8) & 0xffffffffL;
        long tail = ring.getInt(position + 12) & 0xffffffffL;
        long descriptors = ring.getInt(position + 24) & 0xffffffffL;
        boolean plausible = ring.getInt(position) == SIGNATURE
                && length >= SECTOR
                && length <= ring.capacity()
                && length % SECTOR == 0
                && tail < ring.capacity()
                && tail % SECTOR == 0
                && ring.getLong(position + 16) != 0
                && HEADER_BYTES + DESCRIPTOR_BYTES * descriptors <= length
                && Guid.at(ring, position + 32).equals(logGuid);
        return plausible ? (int) length : 0;
    }

    /** The entry at {@code position}, whose header is plausible, if its checksum says that all of it was written. */
    static Optional<LogEntry> read(ByteBuffer ring, int position) {
        LogEntry entry = new LogEntry(
                ring,
                position,
                ring.getInt(position + 8),
                ring.getInt(position + 12),
                ring.getLong(position + 16),
                ring.getInt(position + 24),
                ring.getLong(position + 48),
                ring.getLong(position + 56));
        return entry.checksum() == (ring.getInt(position + 4) & 0xffffffffL) ? Optional.of(entry) : Optional.empty();
    }

    private long checksum() {
        CRC32C crc = new CRC32C();
        crc.update(ring.slice(position, 4));
        crc.update(new byte[4]);
        int untilEnd = Math.min(length, ring.capacity() - position);
        crc.update(ring.slice(position + 8, untilEnd - 8));
        crc.update(ring.slice(0, length - untilEnd));
        return crc.getValue();
    }

    /** Whether descriptors and data sectors belong to this entry and fill it, as its length says. */
    boolean consistent() {
        int dataSectors = 0;
        for (int i = 0; i < descriptors; i++) {
            int at = descriptor(i);
            boolean data = ring.getInt(at) == DATA;
            if ((!data && ring.getInt(at) != ZERO) || ring.getLong(at + 24) != sequence) {
                return false;
            }
            if (data && !belongs(dataSectors++)) {
                return false;
            }
        }
        return headSectors() + dataSectors == length / SECTOR;
    }

    private boolean belongs(int dataSector) {
        int at = dataSector(dataSector);
        return headSectors() + dataSector < length / SECTOR
                && ring.getInt(at) == DATA_SECTOR
                && ring.getInt(at + 4) == (int) (sequence >>> 32)
                && ring.getInt(at + SECTOR - 4) == (int) sequence;
    }

    private int headSectors() {
        return (HEADER_BYTES + DESCRIPTOR_BYTES * descriptors + SECTOR - 1) / SECTOR;
    }

    private int descriptor(int index) {
        return at(HEADER_BYTES + DESCRIPTOR_BYTES * index);
    }

    private int dataSector(int index) {
        return at((headSectors() + index) * SECTOR);
    }

    /** The byte of the ring that is byte {@code offset} of this entry. */
    private int at(int offset) {
        return (int) (((long) position + offset) % ring.capacity());
    }

    /** Where the next entry begins. */
    int end() {
        return at(length);
    }

    /** What replay does with the descriptors. */
    interface Writes {
        void zero(long offset, long length) throws IOException;

        /**
         * Writes a sector.
         *
         * @param sector 4096 bytes, the receiver's to keep
         */
        void data(long offset, ByteBuffer sector) throws IOException;
    }

    /** Hands over the descriptors in their order. */
    void replay(Writes writes) throws IOException {
        int dataSectors = 0;
        for (int i = 0; i < descriptors; i++) {
            int at = descriptor(i);
            long offset = ring.getLong(at + 16);
            if (ring.getInt(at) == ZERO) {
                writes.zero(offset, ring.getLong(at + 8));
            } else {
                ByteBuffer sector = ByteBuffer.allocate(SECTOR).order(ByteOrder.LITTLE_ENDIAN);
                sector.put(0, ring, dataSector(dataSectors++), SECTOR)
                        .putLong(0, ring.getLong(at + 8))
                        .putInt(SECTOR - 4, ring.getInt(at + 4));
                writes.data(offset, sector);
            }
        }
    }

    private static int word(String ascii) {
        return ascii.charAt(0) | ascii.charAt(1) << 8 | ascii.charAt(2) << 16 | ascii.charAt(3) << 24;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;

/** Writes entries into the log of a {@link VhdxBuilder}'s file, round its end where they reach it. */
final class LogBuilder {
    static final UUID GUID = UUID.fromString("aaaabbbb-cccc-dddd-eeee-ffff00001111");
    private static final int SECTOR = 4096;

    private final VhdxBuilder image;
    private int position;

    LogBuilder(VhdxBuilder image) {
        this.image = image;
        for (int header : new int[] {VhdxBuilder.HEADER_1, VhdxBuilder.HEADER_2}) {
            image.guid(header + 48, GUID);
        }
    }

    /** The next entry is written at this byte of the log. */
    LogBuilder at(int start) {
        position = start;
        return this;
    }

    int position() {
        return position;
    }

    /** What an entry says besides its descriptors. */
    static final class Entry {
        final long sequence;
        int tail;
        long flushed;
        long last;
        UUID guid = GUID;
        private final List<byte[]> descriptors = new ArrayList<>();
        private final List<byte[]> sectors = new ArrayList<>();

        Entry(long sequence, int tail) {
            this.sequence = sequence;
            this.tail = tail;
        }

        Entry zero(long offset, long length) {
            descriptors.add(descriptor("zero", 0, length, offset).array());
            return this;
        }

        Entry data(long offset, byte[] content) {
            ByteBuffer bytes = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN);
            descriptors.add(descriptor("desc", bytes.getInt(SECTOR - 4), bytes.getLong(0), offset)
                    .array());
            ByteBuffer sector = ByteBuffer.allocate(SECTOR).order(ByteOrder.LITTLE_ENDIAN);
            sector.put(content).put(0, "data".getBytes(StandardCharsets.US_ASCII));
            sector.putInt(4, (int) (sequence >>> 32)).putInt(SECTOR - 4, (int) sequence);
            sectors.add(sector.array());
            return this;
        }

        private ByteBuffer descriptor(String word, int trailing, long leading, long offset) {
            return ByteBuffer.allocate(32)
                    .order(ByteOrder.LITTLE_ENDIAN)
                    .put(0, word.getBytes(StandardCharsets.US_ASCII))
                    .putInt(4, trailing)
                    .putLong(8, leading)
                    .putLong(16, offset)
                    .putLong(24, sequence);
        }

        int length() {
            return (64 + 32 * descriptors.size() + SECTOR - 1) / SECTOR * SECTOR + SECTOR * sectors.size();
        }

        private ByteBuffer bytes(long fileSize) {
            ByteBuffer bytes = ByteBuffer.allocate(length()).order(ByteOrder.LITTLE_ENDIAN);
            bytes.put(0, "loge".getBytes(StandardCharsets.US_ASCII));
            bytes.putInt(8, length()).putInt(12, tail).putLong(16, sequence).putInt(24, descriptors.size());
            VhdxBuilder.guid(bytes, 32, guid);
            bytes.putLong(48, flushed == 0 ? fileSize : flushed).putLong(56, last == 0 ? fileSize : last);
            for (int i = 0; i < descriptors.size(); i++) {
                bytes.put(64 + 32 * i, descriptors.get(i));
            }
            for (int i = 0; i < sectors.size(); i++) {
                bytes.put(length() - SECTOR * (sectors.size() - i), sectors.get(i));
            }
            VhdxBuilder.seal(bytes, 0, length());
            return bytes;
        }
    }

    /** Writes the entry and moves on behind it. */
    LogBuilder add(Entry entry) {
        ByteBuffer bytes = entry.bytes(image.file().capacity());
        for (int i = 0; i < bytes.capacity(); i += SECTOR) {
            image.file().put(VhdxBuilder.LOG + position, bytes, i, SECTOR);
            position = (position + SECTOR) % VhdxBuilder.MIB;
        }
        return this;
    }
}

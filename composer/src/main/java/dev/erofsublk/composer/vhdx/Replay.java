// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/**
 * The file as it would be after its log was replayed, while nothing is written to it: ranges of the file, zeros, and
 * sectors in memory.
 */
final class Replay implements LogEntry.Writes {
    /** File type and headers are written without the log. */
    private static final long FIRST_LOGGED = 192 << 10;

    private static final long MAX_FILE = 1L << 56;

    private final FlatImage file;
    private final String name;
    private final Header header;
    private final long size;
    /** By first byte, never overlapping; later ones replace earlier ones. */
    private final TreeMap<Long, Patch> patches = new TreeMap<>();

    private record Patch(long end, @Nullable ByteBuffer data) {}

    private Replay(FlatImage file, String name, Header header, long size) {
        this.file = file;
        this.name = name;
        this.header = header;
        this.size = size;
    }

    /**
     * Replays {@code entries}.
     *
     * @param entries the active sequence from its tail on
     * @return the file after it; its sources are those of {@code file}, and memory
     */
    static FlatImage apply(FlatImage file, String name, Header header, List<LogEntry> entries) throws IOException {
        LogEntry last = entries.getLast();
        if (last.flushedFileOffset() < 0 || last.flushedFileOffset() > file.size()) {
            throw new ImageException(
                    name,
                    "log entry.FlushedFileOffset",
                    Long.toUnsignedString(last.flushedFileOffset()),
                    "at most the file's size of " + file.size() + ": the file is truncated");
        }
        if (last.lastFileOffset() < 0
                || last.lastFileOffset() > MAX_FILE
                || last.lastFileOffset() % LogEntry.SECTOR != 0) {
            throw new ImageException(
                    name,
                    "log entry.LastFileOffset",
                    Long.toUnsignedString(last.lastFileOffset()),
                    "a multiple of 4096 up to " + MAX_FILE);
        }
        Replay replay = new Replay(file, name, header, Math.max(file.size(), last.lastFileOffset()));
        for (LogEntry entry : entries) {
            entry.replay(replay);
        }
        return replay.view();
    }

    @Override
    public void zero(long offset, long length) throws IOException {
        write(offset, length, null);
    }

    @Override
    public void data(long offset, ByteBuffer sector) throws IOException {
        write(offset, LogEntry.SECTOR, sector);
    }

    private void write(long offset, long length, @Nullable ByteBuffer data) throws ImageException {
        if (offset < FIRST_LOGGED
                || offset % LogEntry.SECTOR != 0
                || length <= 0
                || length % LogEntry.SECTOR != 0
                || offset > size - length) {
            throw new ImageException(
                    name,
                    "log descriptor.FileOffset",
                    "%s, %s bytes".formatted(Long.toUnsignedString(offset), Long.toUnsignedString(length)),
                    "sectors of 4096 bytes between the headers and the file's end at byte " + size);
        }
        long end = offset + length;
        if (offset < header.logOffset() + header.logLength() && end > header.logOffset()) {
            throw new ImageException(name, "log descriptor.FileOffset", offset, "a place outside the log");
        }
        cutAt(offset);
        cutAt(end);
        patches.subMap(offset, end).clear();
        patches.put(offset, new Patch(end, data));
    }

    /** Makes {@code offset} a border; only zeros are longer than a sector and may have to be cut. */
    private void cutAt(long offset) {
        Map.Entry<Long, Patch> before = patches.lowerEntry(offset);
        if (before != null && before.getValue().end > offset) {
            patches.put(before.getKey(), new Patch(offset, before.getValue().data));
            patches.put(offset, before.getValue());
        }
    }

    private FlatImage view() {
        long sectors = patches.values().stream().filter(p -> p.data != null).count();
        byte[] memory = new byte[(int) (sectors * LogEntry.SECTOR)];
        Bytes replayed = new Bytes(name + " (replayed log)", memory);
        FlatImage.Builder out = FlatImage.builder(FlatImage.SECTOR);
        int at = 0;
        for (Map.Entry<Long, Patch> patch : patches.entrySet()) {
            fromFile(out, patch.getKey());
            ByteBuffer data = patch.getValue().data;
            if (data == null) {
                out.zerosTo(patch.getValue().end);
            } else {
                data.get(0, memory, at, LogEntry.SECTOR);
                out.append(LogEntry.SECTOR, replayed, at);
                at += LogEntry.SECTOR;
            }
        }
        fromFile(out, size);
        return out.build();
    }

    /** The file's own bytes up to {@code end}, and zeros where the log makes it longer. */
    private void fromFile(FlatImage.Builder out, long end) {
        long own = Math.min(end, file.size()) - out.size();
        if (own > 0) {
            out.append(own, file, out.size());
        }
        out.zerosTo(end);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Fields;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;

/**
 * Finds the active sequence of a log: the entries that may not have reached the file.
 *
 * <p>A sequence is entries one behind the other whose numbers go up by one; it is valid if the last one's {@code Tail}
 * is the position of one of them, and of the valid ones that with the greatest number is active. What precedes the tail
 * is in the file already and is not replayed (MS-VHDX 2.3.3; QEMU 7.2 looks at the first entry's number and ignores
 * the tail, facts/vmdisk.md §0.7).
 */
final class Log {
    /** Hyper-V and QEMU write logs of 1 MiB; this bounds memory and, with {@link #budget}, time. */
    static final long MAX_BYTES = 64 << 20;

    private final ByteBuffer ring;
    private final UUID guid;
    private final String name;
    private final Map<Integer, Optional<LogEntry>> entries = new HashMap<>();
    /** Bytes that may still be summed. Entries do not overlap but where old ones are partly overwritten. */
    private long budget;

    private Log(ByteBuffer ring, UUID guid, String name) {
        this.ring = ring;
        this.guid = guid;
        this.name = name;
        budget = 4L * ring.capacity() + MAX_BYTES;
    }

    /**
     * The entries to replay, oldest first.
     *
     * @throws ImageException if there is none although the header says that there is a log
     */
    static List<LogEntry> active(FlatImage file, String name, Header header) throws IOException {
        if (header.logLength() > MAX_BYTES) {
            throw new ImageException(
                    name, "header.LogLength", header.logLength(), "at most " + MAX_BYTES + " for a log to be replayed");
        }
        int length = (int) header.logLength();
        Fields log = Fields.read(file, name, "log", header.logOffset(), length, ByteOrder.LITTLE_ENDIAN);
        return new Log(log.bytes(), header.logGuid(), name).active();
    }

    private List<LogEntry> active() throws ImageException {
        List<LogEntry> best = List.of();
        int start = 0;
        while (start < ring.capacity()) {
            List<LogEntry> sequence = sequenceFrom(start);
            if (tailIndex(sequence) < 0) {
                start += LogEntry.SECTOR;
                continue;
            }
            if (best.isEmpty()
                    || Long.compareUnsigned(
                                    sequence.getLast().sequence(),
                                    best.getLast().sequence())
                            > 0) {
                best = sequence;
            }
            int next = sequence.getLast().end();
            if (next <= start) {
                break; // round the end: from here on the sequences are parts of those already seen
            }
            start = next;
        }
        if (best.isEmpty()) {
            throw new ImageException(name, "log", "without a valid sequence of entries", "one, since LogGuid is set");
        }
        return best.subList(tailIndex(best), best.size());
    }

    private List<LogEntry> sequenceFrom(int start) throws ImageException {
        List<LogEntry> sequence = new ArrayList<>();
        long room = ring.capacity();
        int at = start;
        while (true) {
            Optional<LogEntry> next = entry(at);
            if (next.isEmpty()
                    || next.get().length() > room
                    || (!sequence.isEmpty()
                            && next.get().sequence() != sequence.getLast().sequence() + 1)) {
                return sequence;
            }
            sequence.add(next.get());
            room -= next.get().length();
            at = next.get().end();
        }
    }

    private Optional<LogEntry> entry(int position) throws ImageException {
        Optional<LogEntry> known = entries.get(position);
        if (known != null) {
            return known;
        }
        int length = LogEntry.plausibleLength(ring, position, guid);
        if (length == 0) {
            return Optional.empty();
        }
        budget -= length;
        if (budget < 0) {
            throw new ImageException(name, "log", "entries that overlap many times over", "a ring of entries");
        }
        Optional<LogEntry> entry = LogEntry.read(ring, position);
        if (entry.isPresent() && !entry.get().consistent()) {
            // The checksum says that no write was interrupted here: to go on without this entry would lose its writes.
            throw new ImageException(
                    name,
                    "log entry at byte " + position,
                    entry.get().descriptors() + " descriptors in " + length + " bytes",
                    "descriptors and data sectors of one sequence number that fill the entry");
        }
        entries.put(position, entry);
        return entry;
    }

    /** The index of the entry at which the last one's tail points; -1 if there is none. */
    private static int tailIndex(List<LogEntry> sequence) {
        if (!sequence.isEmpty()) {
            for (int i = sequence.size(); i-- > 0; ) {
                if (sequence.get(i).position() == sequence.getLast().tail()) {
                    return i;
                }
            }
        }
        return -1;
    }
}

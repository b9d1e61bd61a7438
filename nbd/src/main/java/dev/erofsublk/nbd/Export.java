// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Decoded;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FirstTouches;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.Set;

/**
 * A device as clients know it: a name, and the bytes.
 *
 * <p>Thread-safe, and shared by all connections. The {@link AddressSpace} stays the caller's to close, after the last
 * server that uses it.
 */
public final class Export {
    /** The longest name, in bytes of UTF-8. */
    public static final int MAX_NAME_BYTES = Nbd.MAX_STRING;

    private final String name;
    private final String description;
    private final AddressSpace space;
    private final AllocationMap allocation;
    private final Residency residency;

    // Guarded by tallies
    private final Set<Tally> tallies = new HashSet<>();
    private NbdCounters past = NbdCounters.NONE;

    /**
     * @param name what clients ask for, at most 4096 bytes of UTF-8; may be empty
     * @param description a line for people, at most 4096 bytes; may be empty
     * @param space what is served
     */
    public Export(String name, String description, AddressSpace space) {
        if (utf8(name).length > Nbd.MAX_STRING || utf8(description).length > Nbd.MAX_STRING) {
            throw new IllegalArgumentException("an export's name or description of more than 4096 bytes");
        }
        this.name = name;
        this.description = description;
        this.space = space;
        allocation = new AllocationMap(space.image());
        residency = new Residency(space.size());
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    public String name() {
        return name;
    }

    public String description() {
        return description;
    }

    /** Bytes of the device, a multiple of 512. */
    public long size() {
        return space.size();
    }

    /** The block size that suits the content: a power of two, 512 to 4096. */
    public int blockSize() {
        return space.image().blockSize();
    }

    /** What has been done so far; at most one batch of requests for each connection behind. */
    public NbdCounters counters() {
        synchronized (tallies) {
            NbdCounters sum = past;
            for (Tally tally : tallies) {
                sum = tally.plus(sum);
            }
            return sum;
        }
    }

    /** Bytes that have been brought in, which is not to say that the kernel still keeps them; at most the size. */
    public long residentBytes() {
        return Math.min(size(), residency.count() * Residency.UNIT);
    }

    /** Counts what a new connection does. */
    void add(Tally tally) {
        synchronized (tallies) {
            tallies.add(tally);
        }
    }

    /** Keeps what a connection has done that ends. */
    void remove(Tally tally) {
        synchronized (tallies) {
            tallies.remove(tally);
            past = tally.plus(past);
        }
    }

    AddressSpace space() {
        return space;
    }

    AllocationMap allocation() {
        return allocation;
    }

    /** Whether these bytes can be sent without decoding and, as far as one can know, without waiting for a disk. */
    boolean isReady(long offset, long length) {
        return residency.has(offset, length);
    }

    /** Has the kernel start reading what these bytes need, and does not wait for it. */
    void prefetch(long offset, long length) {
        advise(unitStart(offset), unitEnd(offset + length), Linux.MADV_WILLNEED);
    }

    /**
     * Brings these bytes in: decodes what has to be decoded, and has the kernel read what is not in memory.
     *
     * @return false if some of the bytes cannot be had: the file is shorter than it was, its medium fails, or decoding
     *     does
     */
    boolean load(long offset, long length) {
        FirstTouches touches = space.touches();
        if (touches != null) {
            touches.touch(offset, length);
        }
        long start = unitStart(offset);
        long end = unitEnd(offset + length);
        if (loadExactly(start, end)) {
            residency.add(start, end - start);
            return true;
        }
        return loadExactly(offset, offset + length); // the neighbours' damage is not the client's
    }

    /**
     * As a client's read would, ahead of one; waits. Where first reads are noted, the one that comes looks again.
     *
     * @return whether all of these bytes are there
     */
    public boolean bringIn(long offset, long length) {
        long start = unitStart(offset);
        long end = unitEnd(offset + length);
        boolean loaded = loadExactly(start, end);
        if (loaded && space.touches() == null) {
            residency.add(start, end - start);
        }
        return loaded;
    }

    private boolean loadExactly(long start, long end) {
        try {
            decode(start, end);
        } catch (IOException e) {
            return false;
        }
        return isReadable(start, end - start);
    }

    /** Whether the kernel can read all of these bytes now; waits for the disk if it has to. */
    boolean isReadable(long offset, long length) {
        return advise(offset, offset + length, Linux.MADV_POPULATE_READ);
    }

    private boolean advise(long start, long end, int advice) {
        int range = allocation.indexOf(start);
        for (long at = start; at < end; range++) {
            long stop = Math.min(end, allocation.end(range));
            if (!allocation.isHole(range) && !adviseMapped(at, stop, advice)) {
                return false;
            }
            at = stop;
        }
        return true;
    }

    private boolean adviseMapped(long start, long end, int advice) {
        int run = space.run(start);
        for (long at = start; at < end; run++) {
            long stop = Math.min(end, space.runEnd(run));
            long first = space.address(run, at) & -Linux.PAGE_SIZE;
            // The kernel rounds the length up to whole pages.
            if (Linux.madvise(first, space.address(run, at) + (stop - at) - first, advice) != 0) {
                return false;
            }
            at = stop;
        }
        return true;
    }

    private void decode(long start, long end) throws IOException {
        FlatImage image = space.image();
        for (int i = image.indexOf(start); i < image.extentCount(); i++) {
            Extent extent = image.extent(i);
            if (extent.start() >= end) {
                return;
            }
            if (extent.source() instanceof Decoded decoded) {
                long from = Math.max(start, extent.start());
                long to = Math.min(end, extent.end());
                decoded.ensure(extent.sourceOffset() + (from - extent.start()), to - from);
            }
        }
    }

    /**
     * Reads bytes of the device into native memory, without touching the mapping.
     *
     * @throws IOException if some of them cannot be had
     */
    void read(long offset, MemorySegment target) throws IOException {
        FlatImage image = space.image();
        long end = offset + target.byteSize();
        int i = image.indexOf(offset);
        for (long at = offset; at < end; i++) {
            Extent extent = image.extent(i);
            long stop = Math.min(end, extent.end());
            extent.source().read(extent.sourceOffset() + (at - extent.start()), target.asSlice(at - offset, stop - at));
            at = stop;
        }
    }

    private static long unitStart(long offset) {
        return offset & -Residency.UNIT;
    }

    private long unitEnd(long end) {
        return Math.min(size(), (end + Residency.UNIT - 1) & -Residency.UNIT);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Sysctl;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.IdentityHashMap;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * A {@link FlatImage} as memory: for each byte of the device, the address of one that holds its value.
 *
 * <pre>
 *   device    0                                                        size
 *             |  metadata  | hole |   blob 1 (file pages)  |  blob 2  |
 *   span      |  MAP_FIXED |  0   |   MAP_FIXED         |e |MAP_FIXED |      e: an edge page, composed
 *             base ------------------------------------------------------> address = base + offset
 * </pre>
 *
 * <p>One span of virtual memory is reserved for the device, and every extent whose file offset is congruent to its
 * device offset modulo the page size is mapped in its place: the MMU flattens the image, and the address of a byte is
 * {@code base + offset} however many layers there are. A page that such an extent fills only in part is an
 * <em>edge</em>: anonymous memory into which the few bytes are read once. Holes are anonymous and never written, so the
 * kernel gives them its shared page of zeros.
 *
 * <p>What the MMU cannot place (extents that are not congruent, as in images with 512-byte blocks, or more of them
 * than {@code vm.max_map_count} has room for) lies in a mapping of its whole source, and a table of <em>runs</em> tells
 * the distance. A device placed entirely by the MMU has one run, number 0. Otherwise an index tells for equal parts of
 * the device, about as many as there are runs, which run each begins in, so that {@link #run} has a border or two to
 * compare instead of all: a request among a hundred thousand runs takes 34 ns instead of 187, and 32 with one run
 * (RequestBenchmark).
 *
 * <p>Immutable, all but what it knows of residency and of who has read what, and thread-safe. Addresses are valid until
 * {@link #close()}, which must come after the last server has drained. Java code never dereferences them: a file
 * truncated meanwhile would raise SIGBUS in the JVM, where the kernel copying from the same address reports a clean error
 * (facts/java.md §0).
 */
public final class AddressSpace implements AutoCloseable {
    private final FlatImage image;
    private final long base;
    private final List<Mapping> mappings; // the span first, then those of whole sources
    private final RunTable table;
    private final Residency residency;
    private final boolean decodes;
    private volatile @Nullable FirstTouches touches;

    /**
     * @param position where it begins on the line of positions, a multiple of the residency unit
     * @param source what all of it is, or null for the span
     */
    private record Mapping(
            long address,
            long bytes,
            long position,
            @Nullable Source source) {
        boolean holds(long unit) {
            return unit >= position >>> Residency.UNIT_SHIFT && unit < endUnit();
        }

        long endUnit() {
            return (position >>> Residency.UNIT_SHIFT) + Residency.unitsUp(bytes);
        }
    }

    private AddressSpace(FlatImage image, Layout layout) {
        this.image = image;
        base = layout.base;
        mappings = List.copyOf(layout.mappings);
        table = layout.runs.build(image.size());
        residency = initialResidency();
        decodes = image.sources().stream().anyMatch(Decoded.class::isInstance);
    }

    /** Anonymous memory is resident from the start; what is mapped from a file has to be looked at first. */
    private Residency initialResidency() {
        Residency all = new Residency(mappings.getLast().position + mappings.getLast().bytes);
        all.setAll();
        for (Mapping mapping : mappings) {
            if (mapping.source != null) {
                clear(all, mapping.position, mapping.bytes);
            }
        }
        for (int i = 0; i < image.extentCount(); i++) {
            Extent extent = image.extent(i);
            boolean file = extent.source() instanceof Blob || extent.source() instanceof Decoded;
            if (file && table.delta(table.run(extent.start())) == base) {
                clear(all, extent.start(), extent.length());
            }
        }
        return all;
    }

    private static void clear(Residency all, long position, long bytes) {
        long end = Residency.unitsUp(position + bytes);
        for (long unit = position >>> Residency.UNIT_SHIFT; unit < end; unit++) {
            all.clear(unit);
        }
    }

    /**
     * Lays {@code image} out in memory. The image stays the caller's to close, after this.
     *
     * @throws LinuxException if the memory cannot be mapped
     * @throws IOException if bytes of an edge cannot be read
     */
    public static AddressSpace map(FlatImage image) throws IOException {
        Layout layout = new Layout(image);
        try {
            layout.place();
            return new AddressSpace(image, layout);
        } catch (IOException | RuntimeException e) {
            layout.unmap();
            throw e;
        }
    }

    /** The device laid out here. */
    public FlatImage image() {
        return image;
    }

    /** Bytes of the device. */
    public long size() {
        return image.size();
    }

    /** The address of the reserved span; never 0, and readable for at least a page. */
    public long base() {
        return base;
    }

    /** How many runs there are; 1 if the MMU placed everything. */
    public int runs() {
        return table.runs();
    }

    /** The run that holds byte {@code offset} of the device, which is within {@code [0, size)}. */
    public int run(long offset) {
        return table.run(offset);
    }

    /** The device offset behind the last byte of run {@code run}. */
    public long runEnd(int run) {
        return table.end(run);
    }

    /** The address of byte {@code offset}, which lies in run {@code run}; all bytes up to the run's end follow it. */
    public long address(int run, long offset) {
        return table.delta(run) + offset;
    }

    /** What of this can be copied without waiting, by {@link #position}. */
    public Residency residency() {
        return residency;
    }

    /**
     * Has first reads noted in {@code touches} from now on; before the first server is made. Then only a read may set a
     * bit of {@link #residency}: whoever brings bytes in ahead of a read leaves it to that.
     */
    public void note(FirstTouches touches) {
        this.touches = touches;
    }

    /** Where first reads are noted; null if nowhere. */
    public @Nullable FirstTouches touches() {
        return touches;
    }

    /**
     * The place of byte {@code address} of run {@code run} on one line along all mappings, by which residency is kept:
     * the pages of a source that is mapped whole have one place each, however many extents show them.
     */
    public long position(int run, long address) {
        return table.mark(run) + address;
    }

    /** The first address of residency unit {@code unit}; page-aligned. */
    public long unitAddress(long unit) {
        Mapping mapping = mappingOf(unit);
        return (unit << Residency.UNIT_SHIFT) - mapping.position + mapping.address;
    }

    /** Bytes of residency unit {@code unit}: {@link Residency#UNIT_BYTES}, or less in the last of a mapping; whole pages. */
    public int unitBytes(long unit) {
        Mapping mapping = mappingOf(unit);
        return (int) Math.min(Residency.UNIT_BYTES, mapping.position + mapping.bytes - (unit << Residency.UNIT_SHIFT));
    }

    /** How many units from {@code unit} on, at most {@code most}, lie one behind the other in memory. */
    public int unitsFollowing(long unit, int most) {
        return (int) Math.min(most, mappingOf(unit).endUnit() - unit);
    }

    private Mapping mappingOf(long unit) {
        for (Mapping mapping : mappings) {
            if (mapping.holds(unit)) {
                return mapping;
            }
        }
        throw new IndexOutOfBoundsException("unit " + unit + " of " + residency.units());
    }

    /** Whether there are bytes here that have to be decoded before they can be read. */
    public boolean decodes() {
        return decodes;
    }

    /** Whether nothing of unit {@code unit} has to be decoded any more. */
    public boolean isDecoded(long unit) {
        try {
            return !decodes || eachDecoded(unit, (source, offset, length) -> source.present(offset, length));
        } catch (IOException impossible) {
            throw new IllegalStateException(impossible); // present does not throw it
        }
    }

    /**
     * Decodes what is encoded in unit {@code unit}, and waits for it.
     *
     * @throws IOException naming what is damaged or missing
     */
    public void decode(long unit) throws IOException {
        eachDecoded(unit, (source, offset, length) -> {
            source.ensure(offset, length);
            return true;
        });
    }

    /**
     * Decodes what is encoded in {@code [offset, offset + bytes)} of the device, and no more.
     *
     * @throws IOException naming what is damaged or missing
     */
    public void decode(long offset, long bytes) throws IOException {
        eachDecodedOfDevice(offset, offset + bytes, (source, at, length) -> {
            source.ensure(at, length);
            return true;
        });
    }

    /**
     * Brings {@code [offset, offset + bytes)} of the device in, with the units that they lie in, and waits for it: decodes
     * what is encoded, and has the kernel read the rest.
     *
     * @return whether all of it is there
     */
    public boolean load(long offset, long bytes) {
        boolean all = true;
        long end = offset + bytes;
        for (long at = offset; at < end; ) {
            int run = run(at);
            long stop = Math.min(end, runEnd(run));
            long position = position(run, address(run, at));
            all &= loadUnits(position >>> Residency.UNIT_SHIFT, (position + (stop - at) - 1) >>> Residency.UNIT_SHIFT);
            at = stop;
        }
        return all;
    }

    /** Units of one mapping. */
    private boolean loadUnits(long first, long last) {
        boolean all = true;
        for (long unit = first; unit <= last; ) {
            long end = unit;
            while (end <= last && !residency.isResident(end) && (end == unit || !decodes)) {
                end++;
            }
            if (end == unit) {
                unit++; // it is there
                continue;
            }
            boolean loaded = populate(unit, end - 1);
            for (; unit < end; unit++) {
                if (loaded && touches == null) {
                    residency.set(unit);
                }
            }
            all &= loaded;
        }
        return all;
    }

    private boolean populate(long first, long last) {
        try {
            if (decodes) {
                decode(first);
            }
        } catch (IOException damaged) {
            return false;
        }
        long address = unitAddress(first);
        long end = unitAddress(last) + unitBytes(last);
        return Linux.madvise(address, end - address, Linux.MADV_POPULATE_READ) == 0;
    }

    private interface Part {
        boolean visit(Decoded source, long offset, long length) throws IOException;
    }

    private boolean eachDecoded(long unit, Part part) throws IOException {
        Mapping mapping = mappingOf(unit);
        long offset = (unit << Residency.UNIT_SHIFT) - mapping.position;
        if (mapping.source == null) {
            return eachDecodedOfDevice(offset, Math.min(offset + Residency.UNIT_BYTES, size()), part);
        }
        return !(mapping.source instanceof Decoded decoded)
                || part.visit(decoded, offset, Math.min(Residency.UNIT_BYTES, decoded.size() - offset));
    }

    private boolean eachDecodedOfDevice(long from, long to, Part part) throws IOException {
        for (long at = from; at < to; ) {
            Extent extent = image.extent(image.indexOf(at));
            long end = Math.min(extent.end(), to);
            if (extent.source() instanceof Decoded decoded
                    && !part.visit(decoded, extent.sourceOffset() + (at - extent.start()), end - at)) {
                return false;
            }
            at = end;
        }
        return true;
    }

    /** Unmaps everything; may be called twice by the same owner. */
    @Override
    public void close() {
        for (Mapping mapping : mappings) {
            Linux.munmap(mapping.address, mapping.bytes);
        }
    }

    /** The work of placing, and the state that is only needed meanwhile. */
    private static final class Layout {
        private static final long PAGE = Linux.PAGE_SIZE;

        private final FlatImage image;
        private final long spanBytes;
        private final long base;
        private final List<Mapping> mappings = new ArrayList<>();
        private final IdentityHashMap<Source, Mapping> whole = new IdentityHashMap<>();
        private RunTable.Builder runs = new RunTable.Builder(1);

        Layout(FlatImage image) throws LinuxException {
            this.image = image;
            spanBytes = pageUp(image.size());
            base = Linux.mmap(
                    0,
                    spanBytes,
                    Linux.PROT_READ,
                    Linux.MAP_PRIVATE | Linux.MAP_ANONYMOUS | Linux.MAP_NORESERVE,
                    -1,
                    0);
            mappings.add(new Mapping(base, spanBytes, 0, null));
        }

        void place() throws IOException {
            boolean inPlace = piecesInPlace() <= mapBudget();
            runs = new RunTable.Builder(inPlace ? 1 : image.extentCount());
            for (int i = 0; i < image.extentCount(); i++) {
                Extent extent = image.extent(i);
                if (extent.source() == Zeros.INSTANCE) {
                    runs.add(extent.start(), base, -base);
                } else if (extent.source() instanceof Bytes || (inPlace && congruent(extent))) {
                    placeInSpan(extent);
                    runs.add(extent.start(), base, -base);
                } else {
                    Mapping mapping = wholeMapping(extent.source());
                    long delta = mapping.address + extent.sourceOffset() - extent.start();
                    runs.add(extent.start(), delta, mapping.position - mapping.address);
                }
            }
        }

        /**
         * Whether the MMU can place it. A decoded source has no edges: their bytes would have to be decoded before
         * anyone asks for them.
         */
        private static boolean congruent(Extent extent) {
            return (extent.start() - extent.sourceOffset()) % PAGE == 0
                    && !(extent.source() instanceof Decoded && (extent.start() | extent.length()) % PAGE != 0);
        }

        /** How many mappings the MMU would need: one an extent, and one or two for each edge. */
        private long piecesInPlace() {
            long pieces = 0;
            for (int i = 0; i < image.extentCount(); i++) {
                Extent extent = image.extent(i);
                if (extent.source() != Zeros.INSTANCE && congruent(extent)) {
                    pieces += 1 + (extent.start() % PAGE == 0 ? 0 : 1) + (extent.end() % PAGE == 0 ? 0 : 1);
                }
            }
            return pieces;
        }

        /** Half of what {@code vm.max_map_count} leaves: the other half is for the JVM and for further devices. */
        private static long mapBudget() throws IOException {
            long limit = Sysctl.number("vm/max_map_count");
            int maps = 0;
            for (byte each : Files.readAllBytes(Path.of("/proc/self/maps"))) {
                maps += each == '\n' ? 1 : 0;
            }
            return (limit - maps) / 2;
        }

        private void placeInSpan(Extent extent) throws IOException {
            long start = extent.start();
            long end = extent.end();
            long firstPage = pageUp(start);
            long lastPage = end & -PAGE;
            if (extent.source() instanceof Bytes || firstPage > lastPage) {
                readInto(extent, start, end);
                return;
            }
            if (start < firstPage) {
                readInto(extent, start, firstPage);
            }
            if (firstPage < lastPage) {
                Linux.mmap(
                        base + firstPage,
                        lastPage - firstPage,
                        Linux.PROT_READ,
                        Linux.MAP_SHARED | Linux.MAP_FIXED,
                        file(extent.source()).fd(),
                        extent.sourceOffset() + (firstPage - start));
            }
            if (lastPage < end) {
                readInto(extent, lastPage, end);
            }
        }

        /** Reads the extent's bytes of {@code [from, to)} into anonymous memory at their place. */
        private void readInto(Extent extent, long from, long to) throws IOException {
            if (from >= to) {
                return;
            }
            long page = from & -PAGE;
            long bytes = pageUp(to) - page;
            protect(page, bytes, Linux.PROT_READ | Linux.PROT_WRITE);
            extent.source().read(extent.sourceOffset() + (from - extent.start()), Linux.memory(base + from, to - from));
            protect(page, bytes, Linux.PROT_READ);
        }

        private void protect(long offset, long bytes, int protection) throws LinuxException {
            Linux.mprotect(base + offset, bytes, protection);
        }

        private Mapping wholeMapping(Source source) throws IOException {
            Mapping mapping = whole.get(source);
            if (mapping == null) {
                Blob blob = file(source);
                long bytes = pageUp(blob.size());
                Mapping last = mappings.getLast();
                mapping = new Mapping(
                        Linux.mmap(0, bytes, Linux.PROT_READ, Linux.MAP_SHARED, blob.fd(), 0),
                        bytes,
                        last.endUnit() << Residency.UNIT_SHIFT,
                        source);
                mappings.add(mapping);
                whole.put(source, mapping);
            }
            return mapping;
        }

        private static Blob file(Source source) {
            return source instanceof Decoded decoded ? decoded.cache() : (Blob) source;
        }

        void unmap() {
            mappings.forEach(mapping -> Linux.munmap(mapping.address, mapping.bytes));
        }

        private static long pageUp(long bytes) {
            return (bytes + PAGE - 1) & -PAGE;
        }
    }
}

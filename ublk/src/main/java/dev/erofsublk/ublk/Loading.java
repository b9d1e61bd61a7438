// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FirstTouches;
import dev.erofsublk.composer.Residency;
import dev.erofsublk.uring.IoUring;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Ring;
import dev.erofsublk.uring.Sqe;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * Brings what one queue's readers ask for into memory, without the queue's thread waiting for it: a page fault in the
 * driver's copy would stop all requests of the queue for as long as the disk needs for one.
 *
 * <p>Three ways, by what is missing. Pages that are in the page cache after all, only not mapped yet: that costs one
 * mincore(2) and one {@code madvise(POPULATE_READ)} for each unit of 64 KiB, once. Pages that are not: {@link PageLoads}.
 * Encoded bytes: {@link Decoding}.
 *
 * <p>How much, by what is there. Just what is asked for, as a reader that goes here and there would otherwise have 15 pages
 * read for each that it wants; the whole unit for who asks for the page beside one that is there, or for one that is there
 * again. From then on nobody looks.
 *
 * <p>Mapped, and not merely in the page cache: a fault within the driver's copy may fail when SIGKILL has just reached
 * the server (do_user_addr_fault in arch/x86/mm/fault.c gives up a fault that is to be tried again), and Linux 7.2 then
 * ends the read with EIO instead of giving it to the next server (__ublk_complete_rq in drivers/block/ublk_drv.c).
 *
 * <p>What lies ahead of a reader that goes forward is populated too: {@link ReadAhead}.
 */
final class Loading implements AutoCloseable {
    private static final int UNIT_SHIFT = Integer.numberOfTrailingZeros(Residency.UNIT_BYTES);

    private final AddressSpace space;
    private final Residency residency;
    private final @Nullable FirstTouches touches;
    private final Ring ring;
    private final PageLoads loads;
    private final ReadAhead readAhead = new ReadAhead();
    private final Arena arena = Arena.ofShared();
    private final MemorySegment pageFlags;
    private final @Nullable Decoding decoding;
    private final MemorySegment eventCount;
    /** Of each tag whose bytes are being read into the page cache, the positions: those asked for, or more. */
    private final long[] readFrom;

    private final long[] readTo;
    private long joined = -1; // the unit of which a read was found missing, if the page beside it was not
    private long completing = -1; // the last unit to be brought in because part of it was read again

    /** @param tags whose commits the ring has to have entries for at any time */
    Loading(AddressSpace space, Ring ring, int tags) throws LinuxException {
        this.space = space;
        this.ring = ring;
        loads = new PageLoads(ring, tags);
        readFrom = new long[tags];
        readTo = new long[tags];
        residency = space.residency();
        touches = space.touches();
        pageFlags = arena.allocate(Math.max(1, Residency.UNIT_BYTES / Linux.PAGE_SIZE));
        eventCount = arena.allocate(Long.BYTES, Long.BYTES);
        decoding = space.decodes() ? new Decoding(space) : null;
        if (decoding != null) {
            listen(decoding);
            ring.submitAndWait(0); // the tags' first commands need all entries
        }
    }

    /**
     * Looks at the units of {@code [position, position + bytes)}: whether all of them can be copied without waiting.
     *
     * @param offset of the request on the device; {@code position} is the same as a position of the address space
     */
    boolean isLoaded(long offset, long position, int bytes) throws LinuxException {
        if (touches != null) {
            touches.touch(offset, bytes);
        }
        long last = (position + bytes - 1) >>> UNIT_SHIFT;
        for (long unit = position >>> UNIT_SHIFT; unit <= last; unit++) {
            if (!residency.isResident(unit) && !isLoaded(unit, position, position + bytes)) {
                return false;
            }
        }
        return true;
    }

    /** Whether what {@code unit} has of {@code [from, to)} can be copied without waiting. */
    private boolean isLoaded(long unit, long from, long to) throws LinuxException {
        if (!space.isDecoded(unit)) {
            return false;
        }
        long start = unit << UNIT_SHIFT;
        long address = space.unitAddress(unit);
        int length = space.unitBytes(unit);
        int there = Linux.pagesInMemory(address, length, pageFlags);
        if (there * Linux.PAGE_SIZE == length) {
            if (!map(address, length)) {
                return false;
            }
            residency.set(unit);
            if (readAhead.isMark(unit)) {
                loadAhead(unit, unit);
            }
            return true;
        }
        int first = (int) (Math.max(from - start, 0) & -Linux.PAGE_SIZE);
        int end = (int) Queue.pageUp(Math.min(to - start, length));
        for (int page = first; page < end; page += Linux.PAGE_SIZE) {
            if (!isInMemory(page)) {
                joined = (first > 0 && isInMemory(first - Linux.PAGE_SIZE)) || (end < length && isInMemory(end))
                        ? unit
                        : -1;
                return false;
            }
        }
        if (!map(address + first, end - first)) {
            return false;
        }
        if (completing != unit) { // somebody reads again what was read before, so the unit is worth having
            completing = unit;
            loads.populate(address, length, UserData.ahead(unit, 1));
        }
        return true;
    }

    /** Of the unit that was looked at last: whether the page at byte {@code at} of it is in memory. */
    private boolean isInMemory(int at) {
        return (pageFlags.get(JAVA_BYTE, at / Linux.PAGE_SIZE) & 1) != 0;
    }

    /** Maps pages that are in the page cache, each of them. */
    private static boolean map(long address, long bytes) {
        return Linux.madvise(address, bytes, Linux.MADV_POPULATE_READ) == 0;
    }

    /**
     * Starts what brings the request of {@code tag} in. It ends in a completion of {@link UserData#CACHED} or {@link
     * UserData#POPULATED}, or in {@link #drainInbox}.
     *
     * @param offset of the request on the device; {@code position} is the same as a position of the address space
     */
    void start(int tag, long offset, long position, int bytes) throws LinuxException {
        long first = position >>> UNIT_SHIFT;
        long last = (position + bytes - 1) >>> UNIT_SHIFT;
        if (decoding != null && !allDecoded(first, last)) {
            decoding.request(tag, first, last, offset, bytes);
            return;
        }
        if (!read(tag, offset, position, bytes)) {
            long address = space.unitAddress(first);
            long end = space.unitAddress(last) + space.unitBytes(last);
            loads.populate(address, (int) (end - address), UserData.of(UserData.POPULATED, tag));
        }
        loadAhead(first, last);
    }

    /** Has the request read into the page cache, if its bytes lie together in a file that can be read without waiting. */
    private boolean read(int tag, long offset, long position, int bytes) throws LinuxException {
        Extent extent = space.image().extent(space.image().indexOf(offset));
        if (!(extent.source() instanceof Blob blob) || bytes > extent.end() - offset || !blob.readsWithoutWaiting()) {
            return false;
        }
        long from = position;
        long to = position + bytes;
        long first = position >>> UNIT_SHIFT;
        if (first == joined || readAhead.expects(first)) { // then whole units, as far as the extent goes
            long last = (to - 1) >>> UNIT_SHIFT;
            from = Math.max(first << UNIT_SHIFT, position - (offset - extent.start()));
            to = Math.min((last << UNIT_SHIFT) + space.unitBytes(last), position + (extent.end() - offset));
        }
        if (to - from > PageLoads.MOST_READ) {
            return false;
        }
        readFrom[tag] = from;
        readTo[tag] = to;
        long at = extent.sourceOffset() + (offset - extent.start()) - (position - from);
        loads.read(blob.fd(), at, (int) (to - from), UserData.of(UserData.CACHED, tag));
        return true;
    }

    /**
     * Takes a completion of {@link UserData#CACHED}: maps what was read, of which nothing has to be waited for.
     *
     * @param position of the tag's request, which is at {@code address} in memory
     * @return whether that is so: not if the read was short or has failed
     */
    boolean mapCached(int tag, int result, long position, long address) {
        long from = readFrom[tag];
        long to = readTo[tag];
        long page = (address - (position - from)) & -Linux.PAGE_SIZE;
        if (result < to - from || !map(page, address + (to - position) - page)) {
            return false;
        }
        for (long unit = (from + Residency.UNIT_BYTES - 1) >>> UNIT_SHIFT;
                unit < residency.units() && (unit << UNIT_SHIFT) + space.unitBytes(unit) <= to;
                unit++) {
            residency.set(unit);
        }
        return true;
    }

    /** As {@link #isLoaded}, where it is enough that the bytes have been decoded. */
    boolean isDecoded(long position, int bytes) {
        long last = (position + bytes - 1) >>> UNIT_SHIFT;
        for (long unit = position >>> UNIT_SHIFT; unit <= last; unit++) {
            if (!residency.isResident(unit)) {
                if (!space.isDecoded(unit)) {
                    return false;
                }
                residency.set(unit);
            }
        }
        return true;
    }

    /** As {@link #start}, where it is enough that the bytes are decoded; only of a space that {@code decodes}. */
    void decode(int tag, long offset, long position, int bytes) {
        Objects.requireNonNull(decoding)
                .request(tag, position >>> UNIT_SHIFT, (position + bytes - 1) >>> UNIT_SHIFT, offset, bytes);
    }

    private boolean allDecoded(long first, long last) {
        for (long unit = first; unit <= last; unit++) {
            if (!space.isDecoded(unit)) {
                return false;
            }
        }
        return true;
    }

    /** The request's own pages only: what else lies in their units may be beyond the end of a file cut short. */
    void populateExactly(int tag, long address, int bytes) throws LinuxException {
        long page = address & -Linux.PAGE_SIZE;
        loads.populate(page, (int) (address + bytes - page), UserData.of(UserData.POPULATED_EXACTLY, tag));
    }

    private void loadAhead(long first, long last) throws LinuxException {
        readAhead.reads(first, last);
        long from = readAhead.from();
        if (readAhead.count() == 0 || from >= residency.units()) {
            return;
        }
        int count = space.unitsFollowing(from, readAhead.count());
        if (space.decodes() && !allDecoded(from, from + count - 1)) {
            return;
        }
        readAhead.loads(count);
        long address = space.unitAddress(from);
        long end = space.unitAddress(from + count - 1) + space.unitBytes(from + count - 1);
        loads.populate(address, (int) (end - address), UserData.ahead(from, count));
    }

    /**
     * Takes a completion of {@link UserData#AHEAD}. If it failed, whoever wants the bytes will find out why. Where first
     * reads are noted, the one that wants them has yet to come, and looks once.
     */
    void cameAhead(long userData, int result) {
        if (result == 0 && touches == null) {
            for (long unit = UserData.unit(userData), end = unit + UserData.count(userData); unit < end; unit++) {
                if (!readAhead.isMark(unit)) {
                    residency.set(unit);
                }
            }
        }
    }

    /** The units of {@code [position, position + bytes)} have been populated. */
    void mark(long position, int bytes) {
        long last = (position + bytes - 1) >>> UNIT_SHIFT;
        for (long unit = position >>> UNIT_SHIFT; unit <= last; unit++) {
            residency.set(unit);
        }
    }

    /** What {@link #drainInbox} calls. */
    interface Finish {
        /** Goes on with {@code tag}, whose bytes are {@code readable} now or will never be. */
        void finish(int tag, boolean readable) throws LinuxException;
    }

    /** Takes a completion of {@link UserData#INBOX}: hands on what has been decoded. */
    void drainInbox(Finish finish) throws LinuxException {
        if (decoding == null) {
            return;
        }
        for (Decoding.Answer answer = decoding.poll(); answer != null; answer = decoding.poll()) {
            finish.finish(answer.tag(), answer.readable());
        }
        listen(decoding);
    }

    private void listen(Decoding from) throws LinuxException {
        long at = loads.claim(1);
        MemorySegment sqes = ring.sqes();
        Sqe.opcode(sqes, at, IoUring.IORING_OP_READ);
        Sqe.fd(sqes, at, from.event());
        Sqe.address(sqes, at, eventCount.address());
        Sqe.length(sqes, at, Long.BYTES);
        Sqe.userData(sqes, at, UserData.of(UserData.INBOX, 0));
    }

    /** Comes before the ring is closed; what is still being decoded tells nobody. The memory is the ring's until then. */
    @Override
    public void close() {
        if (decoding != null) {
            decoding.close();
        }
    }
}

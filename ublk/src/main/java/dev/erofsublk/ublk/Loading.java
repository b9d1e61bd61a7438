// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.composer.AddressSpace;
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
 * mincore(2) and one {@code madvise(POPULATE_READ)} for each unit of 64 KiB, once. Pages that are not: the latter through
 * the queue's own ring, which the kernel runs in a worker thread (facts/experiments.md §2). Encoded bytes:
 * {@link Decoding}.
 *
 * <p>Mapped, and not merely in the page cache: a fault within the driver's copy may fail when SIGKILL has just reached
 * the server (do_user_addr_fault in arch/x86/mm/fault.c gives up a fault that is to be tried again), and Linux 7.2 then
 * ends the read with EIO instead of giving it to the next server (__ublk_complete_rq in drivers/block/ublk_drv.c).
 *
 * <p>A reader that goes forward has the units ahead of it populated too, twice as many each time.
 */
final class Loading implements AutoCloseable {
    private static final int UNIT_SHIFT = Integer.numberOfTrailingZeros(Residency.UNIT_BYTES);
    private static final int MOST_AHEAD = 16;

    private final AddressSpace space;
    private final Residency residency;
    private final @Nullable FirstTouches touches;
    private final Ring ring;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment pageFlags;
    private final @Nullable Decoding decoding;
    private final MemorySegment eventCount;
    private long expected = -1;
    private long aheadEnd;
    private int window;

    Loading(AddressSpace space, Ring ring) throws LinuxException {
        this.space = space;
        this.ring = ring;
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
    boolean isLoaded(long offset, long position, int bytes) {
        if (touches != null) {
            touches.touch(offset, bytes);
        }
        long last = (position + bytes - 1) >>> UNIT_SHIFT;
        for (long unit = position >>> UNIT_SHIFT; unit <= last; unit++) {
            if (residency.isResident(unit)) {
                continue;
            }
            if (!space.isDecoded(unit) || !mapped(space.unitAddress(unit), space.unitBytes(unit))) {
                return false;
            }
            residency.set(unit);
        }
        return true;
    }

    /** Maps these pages if none of them has to be waited for. */
    private boolean mapped(long address, long bytes) {
        return Linux.isInMemory(address, bytes, pageFlags)
                && Linux.madvise(address, bytes, Linux.MADV_POPULATE_READ) == 0;
    }

    /**
     * Starts what brings the request of {@code tag} in. It ends in a completion of {@link UserData#POPULATED}, or in
     * {@link #drainInbox}.
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
        long address = space.unitAddress(first);
        long end = space.unitAddress(last) + space.unitBytes(last);
        populate(address, (int) (end - address), UserData.of(UserData.POPULATED, tag));
        readAhead(first, last);
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
        populate(page, (int) (address + bytes - page), UserData.of(UserData.POPULATED_EXACTLY, tag));
    }

    private void readAhead(long first, long last) throws LinuxException {
        boolean forward = first == expected || (first < aheadEnd && first > aheadEnd - MOST_AHEAD - 1);
        window = forward ? Math.min(MOST_AHEAD, Math.max(1, window * 2)) : 0;
        expected = last + 1;
        long from = Math.max(expected, forward ? aheadEnd : 0);
        if (window == 0 || from >= residency.units() || from > expected + MOST_AHEAD) {
            return;
        }
        int count = space.unitsFollowing(from, window);
        if (space.decodes() && !allDecoded(from, from + count - 1)) {
            return;
        }
        aheadEnd = from + count;
        long address = space.unitAddress(from);
        long end = space.unitAddress(aheadEnd - 1) + space.unitBytes(aheadEnd - 1);
        populate(address, (int) (end - address), UserData.ahead(from, count));
    }

    /**
     * Takes a completion of {@link UserData#AHEAD}. If it failed, whoever wants the bytes will find out why. Where first
     * reads are noted, the one that wants them has yet to come, and looks once.
     */
    void cameAhead(long userData, int result) {
        if (result == 0 && touches == null) {
            for (long unit = UserData.unit(userData), end = unit + UserData.count(userData); unit < end; unit++) {
                residency.set(unit);
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

    private void populate(long address, int bytes, long userData) throws LinuxException {
        long at = claim();
        MemorySegment sqes = ring.sqes();
        Sqe.opcode(sqes, at, IoUring.IORING_OP_MADVISE);
        Sqe.fd(sqes, at, -1);
        Sqe.address(sqes, at, address);
        Sqe.length(sqes, at, bytes); // and not "off", which older kernels do not look at
        Sqe.advice(sqes, at, Linux.MADV_POPULATE_READ);
        Sqe.userData(sqes, at, userData);
    }

    private long claim() throws LinuxException {
        long at = ring.nextSqe();
        while (at < 0) { // the inbox has no entry of its own
            ring.submitAndWait(0);
            at = ring.nextSqe();
        }
        return at;
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
        long at = claim();
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

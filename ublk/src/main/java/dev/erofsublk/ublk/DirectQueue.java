// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Residency;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Ring;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * The direct data path: commits each read with the address of its bytes in the mapped image, from where the kernel
 * copies them.
 */
final class DirectQueue extends Queue {
    private static final long PAGE_MASK = -Linux.PAGE_SIZE;

    private final Residency residency;
    private final long[] lastOffset;
    private final long[] lastBytes;
    /** Where the driver drops the bytes of writes, which are then refused; no memory until there is one. */
    private final long scratch;

    private final int scratchBytes;
    private volatile boolean suspicious;

    DirectQueue(
            int fd,
            DeviceInfo device,
            int id,
            AddressSpace space,
            QueueCounters counters,
            Ring ring,
            MemorySegment descriptors)
            throws LinuxException {
        super(fd, ring.registerFiles(fd), device, id, space, counters, ring, descriptors);
        residency = space.residency();
        lastOffset = new long[depth];
        lastBytes = new long[depth];
        Arrays.fill(lastOffset, -1);
        scratchBytes = device.maxIoBytes();
        scratch = Linux.mmap(
                0,
                scratchBytes,
                Linux.PROT_READ | Linux.PROT_WRITE,
                Linux.MAP_PRIVATE | Linux.MAP_ANONYMOUS | Linux.MAP_NORESERVE,
                -1,
                0);
    }

    @Override
    void fetch(int tag) {
        submitFetch(tag, 0, space.base());
    }

    @Override
    void read(int tag, long offset, long bytes) throws LinuxException {
        int run = space.run(offset);
        long address = space.address(run, offset);
        // What lies behind the run's end comes again as a request of its own: a shorter result completes only so much.
        int length = (int) Math.min(bytes, space.runEnd(run) - offset);
        long position = space.position(run, address);
        if (!residency.covers(position, length) && !loading.isLoaded(offset, position, length)) {
            counters.cold();
            loading.start(tag, offset, position, length);
            return;
        }
        boolean again = lastOffset[tag] == offset && lastBytes[tag] == bytes;
        if (again || suspicious) {
            length = readable(address, length);
            if (length == 0) {
                fail(tag, -Errno.EIO, offset);
                return;
            }
        }
        lastOffset[tag] = offset;
        lastBytes[tag] = bytes;
        turnBytes += length;
        submitCommit(tag, length, 0, address);
    }

    @Override
    void completed(long userData, int result) throws LinuxException {
        int tag = UserData.tag(userData);
        switch (UserData.kind(userData)) {
            case UserData.POPULATED -> loaded(tag, result == 0);
            case UserData.CACHED -> cached(tag, result);
            case UserData.POPULATED_EXACTLY -> commitWhatIsThere(tag, offset(tag));
            case UserData.AHEAD -> loading.cameAhead(userData, result);
            case UserData.ADVISED -> {}
            default -> throw UserData.unknown(userData);
        }
    }

    /** The bytes of a tag's request have been read into the page cache; if not, or gone again, it is asked for once more. */
    private void cached(int tag, int result) throws LinuxException {
        long offset = offset(tag);
        int run = space.run(offset);
        long address = space.address(run, offset);
        int length = length(tag, run);
        if (loading.mapCached(tag, result, space.position(run, address), address)) {
            commit(tag, address, length);
        } else {
            loading.populateExactly(tag, address, length);
        }
    }

    /** All units of a tag's request have been populated, or not all could be: then its own bytes may still be there. */
    private void loaded(int tag, boolean all) throws LinuxException {
        long offset = offset(tag);
        int run = space.run(offset);
        long address = space.address(run, offset);
        int length = length(tag, run);
        if (all) {
            loading.mark(space.position(run, address), length);
            commit(tag, address, length);
        } else {
            loading.populateExactly(tag, address, length);
        }
    }

    @Override
    void readDecoded(int tag, long offset) throws LinuxException {
        commitWhatIsThere(tag, offset);
    }

    /** A tag's own bytes have been asked for, and those that are there are in: the others are an error. */
    private void commitWhatIsThere(int tag, long offset) throws LinuxException {
        int run = space.run(offset);
        long address = space.address(run, offset);
        int length = readable(address, length(tag, run));
        if (length == 0) {
            fail(tag, -Errno.EIO, offset);
        } else {
            commit(tag, address, length);
        }
    }

    private void commit(int tag, long address, int length) {
        lastOffset[tag] = -1; // it was looked at just now
        turnBytes += length;
        submitCommit(tag, length, 0, address);
    }

    @Override
    void answer(int tag, int result) {
        lastOffset[tag] = -1;
        submitCommit(tag, result, 0, space.base());
    }

    /**
     * A write cannot be refused before its data are taken, and without NEED_GET_DATA the driver would copy them to the
     * last commit's address, fail, and deliver the write again for ever (ublk_start_io).
     */
    @Override
    void takeWrite(int tag) {
        submitGetData(tag, scratch);
    }

    @Override
    void suspect(boolean suspect) {
        suspicious = suspect;
    }

    /**
     * How many of these bytes the kernel can copy, from the first on. Linux 6.12 delivers a request again and again
     * when the first byte of its copy faults (a file truncated meanwhile), so a tag that brings what it brought last is
     * checked; mostly it is just somebody reading the same block twice (facts/experiments.md §3).
     */
    private static int readable(long address, int length) {
        long page = address & PAGE_MASK;
        long end = pageUp(address + length);
        if (isReadable(page, end)) {
            return length;
        }
        long good = page; // all bytes before it are there, and not all before bad
        long bad = end;
        while (bad - good > Linux.PAGE_SIZE) {
            long middle = good + ((bad - good) / 2 & PAGE_MASK);
            if (isReadable(good, middle)) {
                good = middle;
            } else {
                bad = middle;
            }
        }
        return (int) Math.max(0, good - address);
    }

    private static boolean isReadable(long page, long end) {
        return Linux.madvise(page, end - page, Linux.MADV_POPULATE_READ) == 0;
    }

    @Override
    public void close() {
        super.close();
        Linux.munmap(scratch, scratchBytes);
    }
}

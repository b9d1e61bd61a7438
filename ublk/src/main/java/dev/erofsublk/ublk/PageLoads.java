// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.uring.IoUring;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Ring;
import dev.erofsublk.uring.Sqe;
import java.lang.foreign.MemorySegment;

/**
 * The entries of a queue's ring that bring pages in. An entry stays free for each tag, whose commit must not have to wait.
 *
 * <p>Two ways. <b>Reading</b> starts the disk at once, in the queue's own call, and the completion comes with the last
 * page: no thread waits for it, so as many can be under way as there are tags. The bytes are the kernel's to keep in the
 * page cache; the copy that a read makes of them goes where nobody looks. <b>Populating</b> also maps the pages, but takes
 * one of io_uring's worker threads until they are there, and there are only four for each processor
 * (io_uring/tctx.c, io_init_wq_offload).
 */
final class PageLoads {
    /** The longest read, in bytes. */
    static final int MOST_READ = 512 << 10;

    /**
     * Where the copies go. One for the process, and for good: a ring that is closed may still have reads under way, and
     * what would be mapped here next would be written to. No memory until something is read, and then no more than that.
     */
    private static final long NOWHERE = nowhere();

    private final Ring ring;
    private final int tags;

    PageLoads(Ring ring, int tags) {
        this.ring = ring;
        this.tags = tags;
    }

    private static long nowhere() {
        try {
            return Linux.mmap(
                    0,
                    MOST_READ,
                    Linux.PROT_READ | Linux.PROT_WRITE,
                    Linux.MAP_PRIVATE | Linux.MAP_ANONYMOUS | Linux.MAP_NORESERVE,
                    -1,
                    0);
        } catch (LinuxException e) {
            throw new ExceptionInInitializerError(e);
        }
    }

    /** Reads part of a file into the page cache; {@code bytes} is at most {@link #MOST_READ}. */
    void read(int fd, long offset, int bytes, long userData) throws LinuxException {
        long at = claim(1);
        MemorySegment sqes = ring.sqes();
        Sqe.opcode(sqes, at, IoUring.IORING_OP_READ);
        Sqe.fd(sqes, at, fd);
        Sqe.offset(sqes, at, offset);
        Sqe.address(sqes, at, NOWHERE);
        Sqe.length(sqes, at, bytes);
        Sqe.userData(sqes, at, userData);
    }

    /**
     * Maps pages, and brings in those that are not there. They are announced first: what follows takes fault by fault,
     * and where many faults found nothing, the kernel no longer reads ahead of them but page by page
     * (mm/filemap.c, do_sync_mmap_readahead).
     */
    void populate(long address, int bytes, long userData) throws LinuxException {
        long at = claim(2);
        advise(at, address, bytes, Linux.MADV_WILLNEED, UserData.of(UserData.ADVISED, 0));
        Sqe.flags(ring.sqes(), at, IoUring.IOSQE_IO_HARDLINK | IoUring.IOSQE_CQE_SKIP_SUCCESS);
        advise(ring.nextSqe(), address, bytes, Linux.MADV_POPULATE_READ, userData);
    }

    private void advise(long at, long address, int bytes, int advice, long userData) {
        MemorySegment sqes = ring.sqes();
        Sqe.opcode(sqes, at, IoUring.IORING_OP_MADVISE);
        Sqe.fd(sqes, at, -1);
        Sqe.address(sqes, at, address);
        Sqe.length(sqes, at, bytes); // and not "off", which older kernels do not look at
        Sqe.advice(sqes, at, advice);
        Sqe.userData(sqes, at, userData);
    }

    /** The next entry, all zero; {@code entries} of them follow each other in one submission. */
    long claim(int entries) throws LinuxException {
        ring.reserve(tags + entries);
        return ring.nextSqe();
    }
}

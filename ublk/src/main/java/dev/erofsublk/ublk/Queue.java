// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.uring.Cqe;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.IoUring;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Ring;
import dev.erofsublk.uring.Sqe;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * One hardware queue: fetches requests and commits each with the address of its bytes in the mapped image, from where
 * the kernel copies them. Java does arithmetic only; it never touches a byte of data.
 *
 * <p>The driver wants a queue's commands from one task (drivers/block/ublk_drv.c, ublk_check_commit_and_fetch), so
 * everything here happens on the thread that calls {@link #open} and then {@link #run}.
 *
 * <p>Every request gets exactly one commit at a time: a request that is never committed blocks all ublk administration
 * of the host until it reboots.
 */
final class Queue implements AutoCloseable {
    /** Bytes between the descriptor areas of two queues: room for the deepest queue there is, in whole pages. */
    private static final long DESCRIPTOR_STRIDE = pageUp((long) UblkCmd.MAX_QUEUE_DEPTH * UblkCmd.IO_DESC_BYTES);

    private static final int SECTOR_SHIFT = 9;
    private static final long PAGE_MASK = -Linux.PAGE_SIZE;
    /** The user data of the poll that tells this queue to end; tags are not negative. */
    private static final int WAKE = -1;

    private final int fd;
    private final int id;
    private final int depth;
    private final int commitCommand;
    private final int fetchCommand;
    private final int getDataCommand;
    private final AddressSpace space;
    private final long size;
    private final Ring ring;
    private final MemorySegment sqes;
    private final MemorySegment descriptors;
    private final long[] lastSector;
    private final int[] lastSectors;
    /** Where the driver drops the bytes of writes, which are then refused; no memory until there is one. */
    private final long scratch;

    private final int scratchBytes;
    private final QueueCounters counters;
    private volatile boolean suspicious;
    private int tagsOut;
    private boolean awake;
    private int turns;
    private int turnRequests;
    private long turnBytes;

    private Queue(
            int fd,
            DeviceInfo device,
            int id,
            AddressSpace space,
            QueueCounters counters,
            Ring ring,
            MemorySegment descriptors,
            long scratchAddress) {
        this.fd = fd;
        this.id = id;
        this.space = space;
        this.counters = counters;
        this.ring = ring;
        this.descriptors = descriptors;
        depth = device.depth();
        boolean encoded = device.has(Feature.CMD_IOCTL_ENCODE);
        commitCommand = encoded ? UblkCmd.IO_COMMIT_AND_FETCH_REQ : UblkCmd.number(UblkCmd.IO_COMMIT_AND_FETCH_REQ);
        fetchCommand = encoded ? UblkCmd.IO_FETCH_REQ : UblkCmd.number(UblkCmd.IO_FETCH_REQ);
        getDataCommand = encoded ? UblkCmd.IO_NEED_GET_DATA : UblkCmd.number(UblkCmd.IO_NEED_GET_DATA);
        scratch = scratchAddress;
        scratchBytes = device.maxIoBytes();
        size = space.size();
        sqes = ring.sqes();
        lastSector = new long[depth];
        lastSectors = new int[depth];
        Arrays.fill(lastSector, -1);
    }

    /**
     * Creates the ring of the calling thread and fetches every tag.
     *
     * @param fd {@code /dev/ublkcN}, shared by all queues: a process may have it open once only
     * @param event which makes {@link #run} return when it is raised
     */
    static Queue open(int fd, DeviceInfo device, int id, AddressSpace space, QueueCounters counters, int event)
            throws LinuxException {
        int flags = IoUring.QUEUE_SETUP;
        if (device.flags() != 0 && !device.has(Feature.USER_COPY) && kernelWantsWideEntries(device)) {
            flags |= IoUring.IORING_SETUP_SQE128;
        }
        Ring ring = Ring.create(device.depth(), flags);
        Queue queue = null;
        try {
            long bytes = pageUp((long) device.depth() * UblkCmd.IO_DESC_BYTES);
            long address = Linux.mmap(
                    0, bytes, Linux.PROT_READ, Linux.MAP_SHARED | Linux.MAP_POPULATE, fd, id * DESCRIPTOR_STRIDE);
            long scratch = Linux.mmap(
                    0,
                    device.maxIoBytes(),
                    Linux.PROT_READ | Linux.PROT_WRITE,
                    Linux.MAP_PRIVATE | Linux.MAP_ANONYMOUS | Linux.MAP_NORESERVE,
                    -1,
                    0);
            queue = new Queue(fd, device, id, space, counters, ring, Linux.memory(address, bytes), scratch);
            queue.await(event);
            queue.fetchAll();
            return queue;
        } catch (LinuxException e) {
            if (queue != null) {
                queue.close(); // a mapping left would keep the device from its next server
            } else {
                ring.close();
            }
            throw e;
        }
    }

    private void await(int event) throws LinuxException {
        long at = ring.nextSqe();
        Sqe.opcode(sqes, at, IoUring.IORING_OP_POLL_ADD);
        Sqe.fd(sqes, at, event);
        Sqe.pollEvents(sqes, at, Linux.POLLIN);
        Sqe.userData(sqes, at, WAKE);
        ring.submitAndWait(0);
    }

    /** Drivers that know no ioctl encoding (before 6.4) also refuse entries of 64 bytes for I/O. */
    private static boolean kernelWantsWideEntries(DeviceInfo device) {
        return !device.has(Feature.CMD_IOCTL_ENCODE);
    }

    private void fetchAll() throws LinuxException {
        for (int tag = 0; tag < depth; tag++) {
            submit(fetchCommand, tag, 0, space.base());
        }
        tagsOut = depth;
        ring.submitAndWait(0);
        // A tag that was refused is in the completions at once; all others stay out until there is a request.
        int ready = ring.ready();
        for (int i = 0; i < ready; i++) {
            int result = Cqe.result(ring.cqes(), ring.cqe(i));
            if (result < 0 && result != UblkCmd.IO_RES_ABORT) {
                throw new LinuxException("UBLK_IO_FETCH_REQ", "queue " + id, -result);
            }
        }
    }

    /**
     * Serves until the device is stopped and every tag has come back, or until the event is raised. In that case the
     * requests that are still with this queue go back to the driver with {@link #close}, and on to the next server.
     */
    void run() throws LinuxException {
        while (tagsOut > 0 && !awake) {
            ring.submitAndWait(1);
            int ready = ring.ready();
            boolean timed = (++turns & QueueCounters.SAMPLE_TURNS - 1) == 0;
            long start = timed ? System.nanoTime() : 0;
            turnRequests = 0;
            turnBytes = 0;
            for (int i = 0; i < ready; i++) {
                long cqe = ring.cqe(i);
                complete((int) Cqe.userData(ring.cqes(), cqe), Cqe.result(ring.cqes(), cqe));
            }
            ring.consume(ready);
            counters.turn(turnRequests, turnBytes);
            if (timed && turnRequests > 0) {
                ring.submitAndWait(0); // the kernel copies the bytes in here, which the next wait would hide
                counters.sample(turnRequests, System.nanoTime() - start);
            }
        }
        ring.submitAndWait(0); // what this turn has answered is not to be asked again
    }

    /** From now on, or no longer, asks before each commit whether the bytes are there; from any thread. */
    void suspect(boolean suspect) {
        suspicious = suspect;
    }

    private void complete(int tag, int result) throws LinuxException {
        if (tag == WAKE) {
            awake = true;
        } else if (result == UblkCmd.IO_RES_OK) {
            turnRequests++;
            serve(tag);
        } else if (result == UblkCmd.IO_RES_ABORT) {
            tagsOut--;
        } else if (result == UblkCmd.IO_RES_NEED_GET_DATA) {
            // A write cannot be refused before its data are taken, and without NEED_GET_DATA the driver would copy
            // them to the last commit's address, fail, and deliver the write again for ever (ublk_start_io).
            submit(getDataCommand, tag, 0, scratch);
        } else {
            throw new LinuxException("UBLK_IO_COMMIT_AND_FETCH_REQ", "queue " + id + ", tag " + tag, -result);
        }
    }

    private void serve(int tag) {
        long descriptor = (long) tag * UblkCmd.IO_DESC_BYTES;
        long startSector = IoDesc.startSector(descriptors, descriptor);
        int sectors = IoDesc.sectors(descriptors, descriptor);
        long offset = startSector << SECTOR_SHIFT;
        long bytes = (long) sectors << SECTOR_SHIFT;
        int operation = IoDesc.operation(descriptors, descriptor);
        if (operation != UblkCmd.IO_OP_READ || offset < 0 || bytes > size - offset) {
            // A read-only device has nothing to flush; everything else that is not a read is refused.
            fail(tag, operation == UblkCmd.IO_OP_FLUSH ? 0 : -Errno.EIO, offset);
            return;
        }
        int run = space.run(offset);
        long address = space.address(run, offset);
        // What lies behind the run's end comes again as a request of its own: a shorter result completes only so much.
        int length = (int) Math.min(bytes, space.runEnd(run) - offset);
        boolean again = lastSector[tag] == startSector && lastSectors[tag] == sectors;
        if (again || suspicious) {
            length = readable(address, length);
            if (length == 0) {
                fail(tag, -Errno.EIO, offset);
                return;
            }
        }
        lastSector[tag] = startSector;
        lastSectors[tag] = sectors;
        turnBytes += length;
        submit(commitCommand, tag, length, address);
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

    private void fail(int tag, int result, long offset) {
        lastSector[tag] = -1;
        if (result != 0) {
            counters.error(offset);
        }
        submit(commitCommand, tag, result, space.base());
    }

    private void submit(int command, int tag, int result, long address) {
        // Never -1: there is an entry for each tag, and a tag has at most one command on its way.
        IoCmd.fill(sqes, ring.nextSqe(), fd, command, id, tag, result, address);
    }

    private static long pageUp(long bytes) {
        return (bytes + Linux.PAGE_SIZE - 1) & -Linux.PAGE_SIZE;
    }

    /** Lets the driver take back what it still holds; after that the mapping and the descriptor are free to go. */
    @Override
    public void close() {
        ring.close();
        Linux.munmap(descriptors.address(), descriptors.byteSize());
        Linux.munmap(scratch, scratchBytes);
    }
}

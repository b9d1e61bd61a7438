// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Residency;
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

    /** A commit; or what brings a tag's bytes in, and what reads ahead of it. */
    private static final int ENTRIES_PER_TAG = 2;

    private static final int SECTOR_SHIFT = 9;
    private static final long PAGE_MASK = -Linux.PAGE_SIZE;

    private final int id;
    private final long head;
    private final int depth;
    private final int commitCommand;
    private final int fetchCommand;
    private final int getDataCommand;
    private final AddressSpace space;
    private final Residency residency;
    private final Loading loading;
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
    private boolean aborted;
    private Runnable onAbort = () -> {};
    private int turns;
    private int turnRequests;
    private long turnBytes;

    /** Over memory that is mapped and a ring that is made; benchmarks call it with plain ones. */
    Queue(
            int fd,
            DeviceInfo device,
            int id,
            AddressSpace space,
            QueueCounters counters,
            Ring ring,
            MemorySegment descriptors,
            long scratchAddress)
            throws LinuxException {
        this.id = id;
        this.space = space;
        this.counters = counters;
        this.ring = ring;
        residency = space.residency();
        loading = new Loading(space, ring);
        head = ring.registerFile(fd) ? IoCmd.head(IoUring.IOSQE_FIXED_FILE, 0) : IoCmd.head(0, fd);
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
        Ring ring = Ring.create(ENTRIES_PER_TAG * device.depth(), flags);
        Queue queue = null;
        try {
            ring.registerDescriptor();
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
        Sqe.userData(sqes, at, UserData.of(UserData.WAKE, 0));
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
     *
     * @param onAbort called once, when the driver takes back the first tag: it may never take back the others
     */
    void run(Runnable onAbort) throws LinuxException {
        this.onAbort = onAbort;
        while (tagsOut > 0 && !awake) {
            turn();
        }
        ring.submitAndWait(0); // what this turn has answered is not to be asked again
    }

    /** One system call and what it brought; a method of its own, so that C2 compiles it as such and not as a loop body. */
    private void turn() throws LinuxException {
        ring.submitAndWait(1);
        int ready = ring.ready();
        boolean timed = (++turns & QueueCounters.SAMPLE_TURNS - 1) == 0;
        long start = timed ? System.nanoTime() : 0;
        turnRequests = 0;
        turnBytes = 0;
        for (int i = 0; i < ready; i++) {
            long cqe = ring.cqe(i);
            long userData = Cqe.userData(ring.cqes(), cqe);
            int result = Cqe.result(ring.cqes(), cqe);
            if (userData >>> Integer.SIZE == 0 && result == UblkCmd.IO_RES_OK) {
                turnRequests++;
                serve((int) userData);
            } else {
                exceptional(userData, result);
            }
        }
        ring.consume(ready);
        counters.turn(turnRequests, turnBytes);
        if (timed && turnRequests > 0) {
            ring.submitAndWait(0); // the kernel copies the bytes in here, which the next wait would hide
            counters.sample(turnRequests, System.nanoTime() - start);
        }
    }

    private void exceptional(long userData, int result) throws LinuxException {
        int tag = UserData.tag(userData);
        switch (UserData.kind(userData)) {
            case UserData.COMMAND -> {
                switch (result) {
                    case UblkCmd.IO_RES_ABORT -> abort();
                    // A write cannot be refused before its data are taken, and without NEED_GET_DATA the driver would
                    // copy them to the last commit's address, fail, and deliver the write again for ever
                    // (ublk_start_io).
                    case UblkCmd.IO_RES_NEED_GET_DATA -> submit(getDataCommand, tag, 0, scratch);
                    default ->
                        throw new LinuxException(
                                "UBLK_IO_COMMIT_AND_FETCH_REQ", "queue " + id + ", tag " + tag, -result);
                }
            }
            case UserData.POPULATED -> loaded(tag, result == 0);
            case UserData.POPULATED_EXACTLY -> commitWhatIsThere(tag);
            case UserData.AHEAD -> loading.cameAhead(userData, result);
            case UserData.INBOX -> loading.drainInbox(this::finish);
            case UserData.WAKE -> awake = true;
            default -> throw new IllegalStateException("user data 0x" + Long.toHexString(userData));
        }
    }

    private void abort() {
        tagsOut--;
        if (!aborted) {
            aborted = true;
            onAbort.run();
        }
    }

    /** From now on, or no longer, asks before each commit whether the bytes are there; from any thread. */
    void suspect(boolean suspect) {
        suspicious = suspect;
    }

    /** Answers the request that tag {@code tag} brought, or starts what it takes. */
    void serve(int tag) throws LinuxException {
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
        long position = space.position(run, address);
        if (!residency.covers(position, length) && !loading.isLoaded(offset, position, length)) {
            counters.cold();
            loading.start(tag, offset, position, length);
            return;
        }
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

    /** All units of a tag's request have been populated, or not all could be: then its own bytes may still be there. */
    private void loaded(int tag, boolean all) throws LinuxException {
        // The descriptor is as it was: it is the driver's again only once the request is committed.
        long offset = IoDesc.startSector(descriptors, (long) tag * UblkCmd.IO_DESC_BYTES) << SECTOR_SHIFT;
        int run = space.run(offset);
        long address = space.address(run, offset);
        int length = length(tag, run, offset);
        if (all) {
            loading.mark(space.position(run, address), length);
            commit(tag, address, length);
        } else {
            loading.populateExactly(tag, address, length);
        }
    }

    /** A tag's bytes have been decoded, or cannot be. */
    private void finish(int tag, boolean decoded) {
        long offset = IoDesc.startSector(descriptors, (long) tag * UblkCmd.IO_DESC_BYTES) << SECTOR_SHIFT;
        if (!decoded) {
            fail(tag, -Errno.EIO, offset);
            return;
        }
        int run = space.run(offset);
        commit(tag, space.address(run, offset), length(tag, run, offset));
    }

    /** A tag's own bytes have been asked for, and those that are there are in: the others are an error. */
    private void commitWhatIsThere(int tag) {
        long offset = IoDesc.startSector(descriptors, (long) tag * UblkCmd.IO_DESC_BYTES) << SECTOR_SHIFT;
        int run = space.run(offset);
        long address = space.address(run, offset);
        int length = readable(address, length(tag, run, offset));
        if (length == 0) {
            fail(tag, -Errno.EIO, offset);
        } else {
            commit(tag, address, length);
        }
    }

    private int length(int tag, int run, long offset) {
        long bytes = (long) IoDesc.sectors(descriptors, (long) tag * UblkCmd.IO_DESC_BYTES) << SECTOR_SHIFT;
        return (int) Math.min(bytes, space.runEnd(run) - offset);
    }

    private void commit(int tag, long address, int length) {
        lastSector[tag] = -1; // it was looked at just now
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
        // Never -1: of two entries for each tag, this one needs one, and the other tags at most two; that the inbox may
        // have taken one leaves the other for this.
        IoCmd.write(sqes, ring.claimSqe(), head, command, id, tag, result, address);
    }

    private static long pageUp(long bytes) {
        return (bytes + Linux.PAGE_SIZE - 1) & -Linux.PAGE_SIZE;
    }

    /** Lets the driver take back what it still holds; after that the mapping and the descriptor are free to go. */
    @Override
    public void close() {
        loading.close();
        ring.close();
        Linux.munmap(descriptors.address(), descriptors.byteSize());
        Linux.munmap(scratch, scratchBytes);
    }
}

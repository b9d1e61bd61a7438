// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.FileMap;
import dev.erofsublk.uring.Cqe;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.IoUring;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Ring;
import dev.erofsublk.uring.Sqe;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/**
 * One hardware queue: fetches requests and commits each once its bytes are where the kernel wants them. How they get
 * there is the data path, of which there are two: {@link DirectQueue} and {@link ZeroCopyQueue}. In both Java does
 * arithmetic only; it never touches a byte of data.
 *
 * <p>The driver wants a queue's commands from one task (drivers/block/ublk_drv.c, ublk_check_commit_and_fetch), so
 * everything here happens on the thread that calls {@link #open} and then {@link #run}.
 *
 * <p>Every request gets exactly one commit at a time: a request that is never committed blocks all ublk administration
 * of the host until it reboots.
 */
abstract sealed class Queue implements AutoCloseable permits DirectQueue, ZeroCopyQueue {
    static final int SECTOR_SHIFT = 9;
    /** The device is the first of a ring's registered files. */
    static final int DEVICE_FILE = 0;
    /** One for its commit, and one more for all that is not: {@link PageLoads} submits when it has taken these. */
    private static final int ENTRIES_PER_TAG = 2;
    /** For the shallowest queue: a chain of {@link ZeroCopyQueue}, or what one request may have loaded. */
    private static final int LEAST_ENTRIES = 16;

    /** Bytes between the descriptor areas of two queues: room for the deepest queue there is, in whole pages. */
    private static final long DESCRIPTOR_STRIDE = pageUp((long) UblkCmd.MAX_QUEUE_DEPTH * UblkCmd.IO_DESC_BYTES);

    final int id;
    final int depth;
    final AddressSpace space;
    final Ring ring;
    final MemorySegment sqes;
    final Loading loading;
    final QueueCounters counters;
    long turnBytes;
    private final long head;
    private final int commitCommand;
    private final int fetchCommand;
    private final int getDataCommand;
    private final long size;
    private final MemorySegment descriptors;
    private int tagsOut;
    private boolean awake;
    private boolean aborted;
    private Runnable onAbort = () -> {};
    private final Spin spin = new Spin();
    private volatile long spinNanos;
    private int turns;
    private int turnRequests;

    /**
     * Over memory that is mapped and a ring that is made.
     *
     * @param registered whether the ring's {@link #DEVICE_FILE} is {@code fd}
     */
    Queue(
            int fd,
            boolean registered,
            DeviceInfo device,
            int id,
            AddressSpace space,
            QueueCounters counters,
            Ring ring,
            MemorySegment descriptors)
            throws LinuxException {
        this.id = id;
        this.space = space;
        this.counters = counters;
        this.ring = ring;
        this.descriptors = descriptors;
        loading = new Loading(space, ring, device.depth());
        head = registered ? IoCmd.head(IoUring.IOSQE_FIXED_FILE, DEVICE_FILE) : IoCmd.head(0, fd);
        depth = device.depth();
        boolean encoded = device.has(Feature.CMD_IOCTL_ENCODE);
        commitCommand = encoded ? UblkCmd.IO_COMMIT_AND_FETCH_REQ : UblkCmd.number(UblkCmd.IO_COMMIT_AND_FETCH_REQ);
        fetchCommand = encoded ? UblkCmd.IO_FETCH_REQ : UblkCmd.number(UblkCmd.IO_FETCH_REQ);
        getDataCommand = encoded ? UblkCmd.IO_NEED_GET_DATA : UblkCmd.number(UblkCmd.IO_NEED_GET_DATA);
        size = space.size();
        sqes = ring.sqes();
    }

    /**
     * Creates the ring of the calling thread and fetches every tag.
     *
     * @param fd {@code /dev/ublkcN}, shared by all queues: a process may have it open once only
     * @param files of a device with {@link Feature#AUTO_BUF_REG}, and only then
     * @param event which makes {@link #run} return when it is raised
     */
    static Queue open(
            int fd,
            DeviceInfo device,
            int id,
            AddressSpace space,
            @Nullable FileMap files,
            QueueCounters counters,
            int event)
            throws LinuxException {
        int flags = IoUring.QUEUE_SETUP;
        if (device.flags() != 0 && !device.has(Feature.USER_COPY) && kernelWantsWideEntries(device)) {
            flags |= IoUring.IORING_SETUP_SQE128;
        }
        Ring ring = Ring.create(Math.max(ENTRIES_PER_TAG * device.depth(), LEAST_ENTRIES), flags);
        Queue queue = null;
        try {
            ring.registerDescriptor();
            long bytes = pageUp((long) device.depth() * UblkCmd.IO_DESC_BYTES);
            long address = Linux.mmap(
                    0, bytes, Linux.PROT_READ, Linux.MAP_SHARED | Linux.MAP_POPULATE, fd, id * DESCRIPTOR_STRIDE);
            MemorySegment descriptors = Linux.memory(address, bytes);
            queue = files == null
                    ? new DirectQueue(fd, device, id, space, counters, ring, descriptors)
                    : new ZeroCopyQueue(fd, device, id, space, files, counters, ring, descriptors);
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
            fetch(tag);
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
    final void run(Runnable onAbort) throws LinuxException {
        this.onAbort = onAbort;
        while (tagsOut > 0 && !awake) {
            turn();
        }
        ring.submitAndWait(0); // what this turn has answered is not to be asked again
    }

    /** One system call and what it brought; a method of its own, so that C2 compiles it as such and not as a loop body. */
    private void turn() throws LinuxException {
        if (spinNanos == 0) {
            ring.submitAndWait(1);
        } else {
            ring.submitAndWait(0);
            if (ring.ready() == 0) {
                spin.await(ring, spinNanos);
                ring.submitAndWait(1);
            }
        }
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
            ring.submitAndWait(0); // the kernel moves the bytes in here, which the next wait would hide
            counters.sample(turnRequests, System.nanoTime() - start);
        }
    }

    private void exceptional(long userData, int result) throws LinuxException {
        int tag = UserData.tag(userData);
        switch (UserData.kind(userData)) {
            case UserData.COMMAND -> {
                switch (result) {
                    case UblkCmd.IO_RES_ABORT -> abort();
                    case UblkCmd.IO_RES_NEED_GET_DATA -> takeWrite(tag);
                    default ->
                        throw new LinuxException(
                                "UBLK_IO_COMMIT_AND_FETCH_REQ", "queue " + id + ", tag " + tag, -result);
                }
            }
            case UserData.INBOX -> loading.drainInbox(this::finish);
            case UserData.WAKE -> awake = true;
            default -> completed(userData, result);
        }
    }

    private void abort() {
        tagsOut--;
        if (!aborted) {
            aborted = true;
            onAbort.run();
        }
    }

    /** Answers the request that tag {@code tag} brought, or starts what it takes. */
    final void serve(int tag) throws LinuxException {
        long descriptor = (long) tag * UblkCmd.IO_DESC_BYTES;
        long offset = IoDesc.startSector(descriptors, descriptor) << SECTOR_SHIFT;
        long bytes = (long) IoDesc.sectors(descriptors, descriptor) << SECTOR_SHIFT;
        int operation = IoDesc.operation(descriptors, descriptor);
        if (operation != UblkCmd.IO_OP_READ || offset < 0 || bytes > size - offset) {
            // A read-only device has nothing to flush; everything else that is not a read is refused.
            fail(tag, operation == UblkCmd.IO_OP_FLUSH ? 0 : -Errno.EIO, offset);
            return;
        }
        read(tag, offset, bytes);
    }

    private void finish(int tag, boolean decoded) throws LinuxException {
        if (decoded) {
            readDecoded(tag, offset(tag));
        } else {
            fail(tag, -Errno.EIO, offset(tag));
        }
    }

    /** Where the request of {@code tag} begins. The descriptor is the driver's again only once that is committed. */
    final long offset(int tag) {
        return IoDesc.startSector(descriptors, (long) tag * UblkCmd.IO_DESC_BYTES) << SECTOR_SHIFT;
    }

    /** The bytes of the request of {@code tag} that lie in run {@code run}; what is behind comes again, as a new one. */
    final int length(int tag, int run) {
        long descriptor = (long) tag * UblkCmd.IO_DESC_BYTES;
        long bytes = (long) IoDesc.sectors(descriptors, descriptor) << SECTOR_SHIFT;
        return (int) Math.min(bytes, space.runEnd(run) - offset(tag));
    }

    final void fail(int tag, int result, long offset) throws LinuxException {
        if (result != 0) {
            counters.error(offset);
        }
        answer(tag, result);
    }

    /**
     * Writes a fetch, which has no result yet, or a commit.
     *
     * @param buffer the registered buffer that is to be the tag's next request, or 0
     * @param address where the driver copies from, or 0
     */
    final void submitFetch(int tag, int buffer, long address) {
        IoCmd.write(sqes, ring.claimSqe(), head, fetchCommand, id, tag, 0, buffer, address);
    }

    final void submitCommit(int tag, int result, int buffer, long address) {
        // Never -1: a tag commits once at most between two submissions, and whoever else takes entries leaves one for
        // each tag (PageLoads.claim, ZeroCopyQueue's reservations).
        IoCmd.write(sqes, ring.claimSqe(), head, commitCommand, id, tag, result, buffer, address);
    }

    final void submitGetData(int tag, long address) {
        IoCmd.write(sqes, ring.claimSqe(), head, getDataCommand, id, tag, 0, 0, address);
    }

    /** Fetches the first request of a tag. */
    abstract void fetch(int tag) throws LinuxException;

    /** Answers a read of {@code [offset, offset + bytes)}, all of which is on the device, or starts what it takes. */
    abstract void read(int tag, long offset, long bytes) throws LinuxException;

    /** Answers a read whose bytes, those of its first run, have been decoded. */
    abstract void readDecoded(int tag, long offset) throws LinuxException;

    /** Commits a request of which no byte is handed over. */
    abstract void answer(int tag, int result) throws LinuxException;

    /** Takes the data of a write, so that it can be refused. */
    abstract void takeWrite(int tag) throws LinuxException;

    /** Takes the completion of an entry that the data path has submitted. */
    abstract void completed(long userData, int result) throws LinuxException;

    /** Looks out for requests for {@code nanos} before it sleeps until there is one; from any thread. */
    final void spin(long nanos) {
        spinNanos = nanos;
    }

    /** From now on, or no longer, asks before each commit whether the bytes are there; from any thread. */
    abstract void suspect(boolean suspect);

    static long pageUp(long bytes) {
        return (bytes + Linux.PAGE_SIZE - 1) & -Linux.PAGE_SIZE;
    }

    /** Lets the driver take back what it still holds; after that the mapping and the descriptor are free to go. */
    @Override
    public void close() {
        loading.close();
        ring.close();
        Linux.munmap(descriptors.address(), descriptors.byteSize());
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.VarHandle;

/**
 * One io_uring: a ring of submission entries (SQE), a ring of completion entries (CQE), and the one system call that
 * submits and waits.
 *
 * <p>A turn looks like this, and allocates nothing:
 *
 * {@snippet lang="java" :
 * long sqe = ring.nextSqe();                   // byte offset of a zeroed entry
 * Sqe.opcode(ring.sqes(), sqe, IORING_OP_NOP);
 * ring.submitAndWait(1);
 * int ready = ring.ready();
 * for (int i = 0; i < ready; i++) {
 *     int result = Cqe.result(ring.cqes(), ring.cqe(i));
 * }
 * ring.consume(ready);
 * }
 *
 * <p>Not thread-safe. With {@link IoUring#IORING_SETUP_SINGLE_ISSUER} the kernel itself insists that the thread which
 * created the ring uses it; that must be a platform thread, as a virtual one may change its carrier.
 *
 * <p>Head and tail are free-running unsigned 32-bit counters of which only differences and {@code & mask} have a
 * meaning, so the wrap-around at 2^32 needs no care beyond that.
 */
public final class Ring implements AutoCloseable {
    private static final VarHandle INT = ValueLayout.JAVA_INT.varHandle();
    private static final int RSRC_REGISTER_BYTES = 32;
    private static final int[] FLAGS_A_KERNEL_MAY_LACK = {
        IoUring.IORING_SETUP_TASKRUN_FLAG, // before those that it needs one of
        IoUring.IORING_SETUP_DEFER_TASKRUN,
        IoUring.IORING_SETUP_SINGLE_ISSUER,
        IoUring.IORING_SETUP_COOP_TASKRUN,
        IoUring.IORING_SETUP_SUBMIT_ALL,
    };

    private final int fd;
    private final int flags;
    private final MemorySegment errno;
    private final Arena arena;

    private final MemorySegment ring;
    private final MemorySegment sqes;
    private final MemorySegment cqes;

    private final int sqMask;
    private final int sqEntries;
    private final int sqeShift;
    private final long sqHeadAt;
    private final long sqTailAt;
    private final long sqFlagsAt;
    private int sqTail;
    private int sqSubmitted; // the kernel's head as last read: all entries before it are free again
    private int enterFd;
    private int enterFlags = IoUring.IORING_ENTER_GETEVENTS;

    private final int cqMask;
    private final int cqEntries;
    private final long cqHeadAt;
    private final long cqTailAt;
    private int cqHead;

    private boolean closed;

    /**
     * Takes over mapped rings; for tests that play the kernel, {@code fd} is -1.
     *
     * @param params what {@code io_uring_setup} answered
     */
    Ring(int fd, Arena arena, MemorySegment params, MemorySegment ring, MemorySegment sqes) {
        this.fd = fd;
        enterFd = fd;
        this.arena = arena;
        this.ring = ring;
        this.sqes = sqes;
        errno = Syscall.newState(arena);
        flags = RingParams.get(params, RingParams.FLAGS);
        sqEntries = RingParams.get(params, RingParams.SQ_ENTRIES);
        cqEntries = RingParams.get(params, RingParams.CQ_ENTRIES);
        sqMask = sqEntries - 1;
        cqMask = cqEntries - 1;
        sqeShift = sqeShift(params);
        cqes = ring.asSlice(RingParams.cq(params, RingParams.CQ_CQES), (long) Cqe.BYTES * cqEntries);
        sqHeadAt = RingParams.sq(params, RingParams.SQ_HEAD);
        sqTailAt = RingParams.sq(params, RingParams.SQ_TAIL);
        sqFlagsAt = RingParams.sq(params, RingParams.SQ_FLAGS);
        cqHeadAt = RingParams.cq(params, RingParams.CQ_HEAD);
        cqTailAt = RingParams.cq(params, RingParams.CQ_TAIL);
        int sqArrayAt = RingParams.sq(params, RingParams.SQ_ARRAY);
        for (int i = 0; i < sqEntries; i++) {
            ring.set(JAVA_INT, sqArrayAt + 4L * i, i); // the indirection is not used: slot i is always entry i
        }
        sqTail = (int) INT.getAcquire(ring, sqTailAt);
        sqSubmitted = sqTail;
        cqHead = (int) INT.getAcquire(ring, cqHeadAt);
    }

    private static int sqeShift(MemorySegment params) {
        return (RingParams.get(params, RingParams.FLAGS) & IoUring.IORING_SETUP_SQE128) != 0 ? 7 : 6;
    }

    /**
     * Creates a ring for the calling thread.
     *
     * @param entries submission entries, 1 to 32768, rounded up by the kernel to a power of two; there are twice as
     *     many completion entries
     * @param flags {@code IORING_SETUP_*}. Those that only make it faster are dropped one after the other where the
     *     kernel refuses them; {@link #flags()} tells what was granted
     * @throws LinuxException with EPERM where {@code /proc/sys/kernel/io_uring_disabled} forbids it, ENOSYS where the
     *     kernel has no io_uring
     */
    public static Ring create(int entries, int flags) throws LinuxException {
        Arena arena = Arena.ofShared();
        int fd = -1;
        try {
            MemorySegment params = arena.allocate(RingParams.BYTES, 8);
            fd = setup(entries, flags, params);
            if ((RingParams.get(params, RingParams.FEATURES) & IoUring.IORING_FEAT_SINGLE_MMAP) == 0) {
                throw new LinuxException("io_uring_setup", "one mapping for both rings (Linux 5.4)", Errno.EOPNOTSUPP);
            }
            return mapped(fd, arena, params);
        } catch (LinuxException e) {
            if (fd >= 0) {
                Linux.close(fd);
            }
            arena.close();
            throw e;
        }
    }

    private static Ring mapped(int fd, Arena arena, MemorySegment params) throws LinuxException {
        long sqEntries = RingParams.get(params, RingParams.SQ_ENTRIES);
        long cqEntries = RingParams.get(params, RingParams.CQ_ENTRIES);
        long sqEnd = RingParams.sq(params, RingParams.SQ_ARRAY) + 4 * sqEntries;
        long cqEnd = RingParams.cq(params, RingParams.CQ_CQES) + Cqe.BYTES * cqEntries;
        MemorySegment ring = map(fd, Math.max(sqEnd, cqEnd), IoUring.IORING_OFF_SQ_RING);
        try {
            return new Ring(fd, arena, params, ring, map(fd, sqEntries << sqeShift(params), IoUring.IORING_OFF_SQES));
        } catch (LinuxException e) {
            Linux.munmap(ring.address(), ring.byteSize());
            throw e;
        }
    }

    private static MemorySegment map(int fd, long bytes, long offset) throws LinuxException {
        long address = Linux.mmap(
                0, bytes, Linux.PROT_READ | Linux.PROT_WRITE, Linux.MAP_SHARED | Linux.MAP_POPULATE, fd, offset);
        return Linux.memory(address, bytes);
    }

    private static int setup(int entries, int wanted, MemorySegment params) throws LinuxException {
        int flags = wanted;
        for (int next = 0; ; ) {
            params.fill((byte) 0);
            params.set(JAVA_INT, RingParams.FLAGS, flags);
            long fd = Syscall.call(Syscall.IO_URING_SETUP, entries, params.address(), 0, 0, 0, 0);
            if (fd == -Errno.EINVAL && next < FLAGS_A_KERNEL_MAY_LACK.length) {
                flags &= ~FLAGS_A_KERNEL_MAY_LACK[next++];
                continue;
            }
            return (int)
                    Linux.checked(fd, "io_uring_setup", entries + " entries, flags 0x" + Integer.toHexString(wanted));
        }
    }

    /** The descriptor, for {@code io_uring_register}. */
    public int fd() {
        return fd;
    }

    /** The {@code IORING_SETUP_*} flags that the kernel granted. */
    public int flags() {
        return flags;
    }

    /** Number of submission entries. */
    public int sqEntries() {
        return sqEntries;
    }

    /** Number of completion entries. */
    public int cqEntries() {
        return cqEntries;
    }

    /** All submission entries; see {@link Sqe}. */
    public MemorySegment sqes() {
        return sqes;
    }

    /** All completion entries; see {@link Cqe}. */
    public MemorySegment cqes() {
        return cqes;
    }

    /** Entries that {@link #nextSqe()} can still hand out before a submission. */
    public int sqSpace() {
        // Acquire pairs with the kernel's release of the head after it has read the entries.
        return sqEntries - (sqTail - (int) INT.getAcquire(ring, sqHeadAt));
    }

    /**
     * Takes the next submission entry.
     *
     * @return its byte offset in {@link #sqes()}, all zero; or -1 if the queue is full
     */
    public long nextSqe() {
        long at = claimSqe();
        if (at >= 0) {
            // Plain stores: a slice to fill would be an object until C2 has compiled this.
            for (long end = at + (1L << sqeShift), word = at; word < end; word += Long.BYTES) {
                sqes.set(JAVA_LONG, word, 0);
            }
        }
        return at;
    }

    /**
     * Takes the next submission entry as its last user left it, for a caller that writes all of its first 64 bytes: the
     * same cache line written once, not twice. What lies behind them (with {@code IORING_SETUP_SQE128}) is zero for as
     * long as nobody writes there.
     *
     * @return its byte offset in {@link #sqes()}, or -1 if the queue is full
     */
    public long claimSqe() {
        if (sqTail - sqSubmitted == sqEntries) { // as far as is known from the last submission
            // Acquire pairs with the kernel's release of the head after it has read the entries.
            sqSubmitted = (int) INT.getAcquire(ring, sqHeadAt);
            if (sqTail - sqSubmitted == sqEntries) {
                return -1;
            }
        }
        return (long) (sqTail++ & sqMask) << sqeShift;
    }

    /**
     * Registers the ring's own descriptor with the calling thread, which saves its lookup in each call (Linux 5.18).
     * From then on only this thread may submit, wait and close.
     *
     * @return whether the kernel did; if not, nothing changes
     */
    public boolean registerDescriptor() {
        try (Arena local = Arena.ofConfined()) {
            // linux/io_uring.h, struct io_uring_rsrc_update: offset u32 @0 (-1: any), resv u32 @4, data u64 @8
            MemorySegment update = local.allocate(16, 8);
            update.set(JAVA_INT, 0, -1);
            update.set(JAVA_LONG, 8, fd);
            if (register(IoUring.IORING_REGISTER_RING_FDS, update.address(), 1) != 1) {
                return false;
            }
            enterFd = update.get(JAVA_INT, 0);
            enterFlags |= IoUring.IORING_ENTER_REGISTERED_RING;
            return true;
        }
    }

    /**
     * Makes {@code files} the ring's registered files, from 0 on, which {@link IoUring#IOSQE_FIXED_FILE} entries name
     * instead of descriptors: lookup and reference count are saved for each entry. They stay open until the ring is
     * closed.
     *
     * @return whether the kernel did
     */
    public boolean registerFiles(int... files) {
        try (Arena local = Arena.ofConfined()) {
            return register(
                            IoUring.IORING_REGISTER_FILES,
                            local.allocateFrom(JAVA_INT, files).address(),
                            files.length)
                    == 0;
        }
    }

    /**
     * Gives the ring a table of registered buffers, all of them empty until the kernel puts its own in (Linux 5.19).
     *
     * @param count 1 to 16384
     */
    public void registerBufferTable(int count) throws LinuxException {
        try (Arena local = Arena.ofConfined()) {
            // linux/io_uring.h, struct io_uring_rsrc_register: nr u32 @0, flags u32 @4, resv2, data, tags u64
            MemorySegment table = local.allocate(RSRC_REGISTER_BYTES, 8);
            table.set(JAVA_INT, 0, count);
            table.set(JAVA_INT, 4, IoUring.IORING_RSRC_REGISTER_SPARSE);
            Linux.checked(
                    register(IoUring.IORING_REGISTER_BUFFERS2, table.address(), RSRC_REGISTER_BYTES),
                    "io_uring_register",
                    "IORING_REGISTER_BUFFERS2, " + count + " buffers");
        }
    }

    /**
     * Submits until {@code entries} entries can be claimed without another submission: links between entries hold only
     * within one.
     *
     * @param entries at most {@link #sqEntries()}
     */
    public void reserve(int entries) throws LinuxException {
        while (sqEntries - (sqTail - sqSubmitted) < entries) { // as far as is known from the last submission
            submitAndWait(0);
        }
    }

    private long register(int operation, long argument, int count) {
        return Syscall.call(errno, Syscall.IO_URING_REGISTER, fd, operation, argument, count, 0, 0);
    }

    /**
     * Submits what was filled in and waits.
     *
     * @param completions how many completions to wait for; 0 only submits, and runs what is due
     * @return how many entries the kernel took; a signal ends the wait early without being an error
     */
    public int submitAndWait(int completions) throws LinuxException {
        int pending = sqTail - sqSubmitted;
        // Release pairs with the kernel's acquire of the tail: the entries are written before it is seen.
        INT.setRelease(ring, sqTailAt, sqTail);
        long result = Syscall.call(errno, Syscall.IO_URING_ENTER, enterFd, pending, completions, enterFlags, 0, 0);
        if (result < 0) {
            // EINTR: a signal while waiting. EAGAIN and EBUSY: completions have to be consumed first. In these cases
            // nothing was taken, or what was taken shows in the head; either way the next turn sends the rest.
            if (result != -Errno.EINTR && result != -Errno.EAGAIN && result != -Errno.EBUSY) {
                throw new LinuxException("io_uring_enter", pending + " to submit", (int) -result);
            }
            result = 0;
        }
        int before = sqSubmitted;
        sqSubmitted = (int) INT.getAcquire(ring, sqHeadAt);
        return sqSubmitted - before;
    }

    /**
     * Whether the kernel has completions to make, which it does in the next {@link #submitAndWait}; that would not sleep.
     * Always false where {@link IoUring#IORING_SETUP_TASKRUN_FLAG} was not granted.
     */
    public boolean isWorkDue() {
        // Opaque: read anew each time. What it announces is ordered by the system call that follows.
        return ((int) INT.getOpaque(ring, sqFlagsAt) & IoUring.IORING_SQ_TASKRUN) != 0;
    }

    /** How many completions can be read now. */
    public int ready() {
        // Acquire pairs with the kernel's release of the tail: the entries are read after it.
        return (int) INT.getAcquire(ring, cqTailAt) - cqHead;
    }

    /** The byte offset in {@link #cqes()} of completion {@code i}, 0 being the oldest that is not consumed. */
    public long cqe(int i) {
        return (long) ((cqHead + i) & cqMask) << 4;
    }

    /** Gives the {@code n} oldest completions back to the kernel. */
    public void consume(int n) {
        cqHead += n;
        // Release pairs with the kernel's acquire of the head: the entries were read before it is seen.
        INT.setRelease(ring, cqHeadAt, cqHead);
    }

    /** Unmaps the rings and closes the descriptor; the kernel cancels what is in flight. May be called twice. */
    @Override
    public void close() {
        if (closed) {
            return;
        }
        closed = true;
        if (enterFd != fd) {
            unregisterDescriptor(); // it holds the ring open
        }
        Linux.munmap(sqes.address(), sqes.byteSize());
        Linux.munmap(ring.address(), ring.byteSize());
        Linux.close(fd);
        arena.close();
    }

    private void unregisterDescriptor() {
        try (Arena local = Arena.ofConfined()) {
            MemorySegment update = local.allocate(16, 8);
            update.set(JAVA_INT, 0, enterFd);
            register(IoUring.IORING_UNREGISTER_RING_FDS, update.address(), 1);
        }
    }
}

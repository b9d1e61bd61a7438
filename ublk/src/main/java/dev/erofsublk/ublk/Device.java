// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;

/**
 * One block device, served by threads of this process.
 *
 * <p>{@link #start} returns when the device can be read. From then on it lives until {@link #close}, or until somebody
 * stops it through the kernel, which {@link #awaitStopped} waits for.
 */
public final class Device implements AutoCloseable {
    /** The kernel's readahead for EROFS is twice this (see {@link Parameters}). */
    private static final int OPTIMAL_IO_SHIFT = 18;

    /** Kernels that do not know the encoding ignore the flag; NEED_GET_DATA is as old as the driver. */
    private static final long ALWAYS_OFFERED = Feature.CMD_IOCTL_ENCODE.bit() | Feature.NEED_GET_DATA.bit();

    private static final long WANTED_WHERE_OFFERED = Feature.NO_AUTO_PART_SCAN.bit();
    private static final int PAGE_SHIFT = Integer.numberOfTrailingZeros(Linux.PAGE_SIZE);
    private static final long QUEUE_STACK_BYTES = 256 << 10;
    private static final int NODE_TRIES = 300;
    private static final long NODE_RETRY_MILLIS = 10;

    private final ControlDevice control;
    private final DeviceInfo info;
    private final AddressSpace space;
    private final int fd;
    private final List<Thread> threads = new ArrayList<>();
    private final CountDownLatch fetched;
    private final AtomicReference<Throwable> failure = new AtomicReference<>();
    private boolean closed;

    private Device(ControlDevice control, DeviceInfo info, AddressSpace space, int fd) {
        this.control = control;
        this.info = info;
        this.space = space;
        this.fd = fd;
        fetched = new CountDownLatch(info.queues());
    }

    /**
     * Adds a device and serves {@code space} through it.
     *
     * @param control used until the device is closed, and not closed here
     * @param space has to stay mapped until after {@link #close}
     * @throws LinuxException as the kernel answered; no device is left behind then
     */
    public static Device start(ControlDevice control, AddressSpace space, DeviceOptions options) throws IOException {
        return start(control, space, options, true);
    }

    /**
     * As above.
     *
     * @param readOnly false only in tests: the kernel then lets writes through, which the queues must refuse
     */
    static Device start(ControlDevice control, AddressSpace space, DeviceOptions options, boolean readOnly)
            throws IOException {
        DeviceInfo info = control.add(DeviceInfo.request(
                options.id(),
                options.queues(),
                options.depth(),
                options.maxIoBytes(),
                ALWAYS_OFFERED | (WANTED_WHERE_OFFERED & control.features())));
        Device device = null;
        try {
            control.setParameters(info.id(), parameters(space, options.blockSize(), info.maxIoBytes(), readOnly));
            device = new Device(control, info, space, openNode(info.charPath()));
            device.startQueues();
            control.start(info.id());
            return device;
        } catch (IOException | RuntimeException e) {
            if (device != null) {
                device.close();
            } else {
                control.delete(info.id());
            }
            throw e;
        }
    }

    private static Parameters parameters(AddressSpace space, int blockSize, int maxIoBytes, boolean readOnly) {
        int logicalShift = Integer.numberOfTrailingZeros(blockSize);
        return new Parameters(
                readOnly,
                space.size() >> 9,
                logicalShift,
                Math.max(logicalShift, PAGE_SHIFT),
                OPTIMAL_IO_SHIFT,
                maxIoBytes >> 9);
    }

    /** The node appears a moment after the device, and udev may have it open for another. */
    private static int openNode(String path) throws LinuxException {
        for (int tries = 1; ; tries++) {
            try {
                return Linux.open(path, Linux.O_RDWR);
            } catch (LinuxException e) {
                boolean passing = e.errno() == Errno.ENOENT || e.errno() == Errno.EACCES || e.errno() == Errno.EBUSY;
                if (!passing || tries == NODE_TRIES) {
                    throw e;
                }
            }
            sleep(NODE_RETRY_MILLIS);
        }
    }

    private static void sleep(long millis) throws LinuxException {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new LinuxException("open", "interrupted while waiting", Errno.EINTR);
        }
    }

    private void startQueues() throws IOException {
        for (int queue = 0; queue < info.queues(); queue++) {
            int id = queue;
            Thread thread = Thread.ofPlatform()
                    .name("ublk" + info.id() + "-q" + id)
                    .stackSize(QUEUE_STACK_BYTES)
                    .start(() -> serve(id));
            threads.add(thread);
        }
        await(fetched);
        throwFailure();
    }

    private void serve(int queueId) {
        try {
            prepareThread(queueId);
            try (Queue queue = Queue.open(fd, info, queueId, space)) {
                fetched.countDown();
                queue.run();
            }
        } catch (Throwable e) {
            failure.compareAndSet(null, e);
        } finally {
            fetched.countDown(); // a second time does no harm: the count is only waited for, and the failure is seen
        }
    }

    private void prepareThread(int queueId) throws LinuxException {
        Linux.setAffinity(control.affinity(info.id(), queueId));
        try {
            Linux.setIoFlusher();
        } catch (LinuxException withoutCapability) {
            // An unprivileged server has no CAP_SYS_RESOURCE. The device is read-only, so reclaim never waits for it.
        }
    }

    private static void await(CountDownLatch latch) throws LinuxException {
        try {
            latch.await();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new LinuxException("UBLK_IO_FETCH_REQ", "interrupted while waiting", Errno.EINTR);
        }
    }

    private void throwFailure() throws IOException {
        switch (failure.get()) {
            case null -> {}
            case IOException e -> throw e;
            case Throwable e -> throw new IllegalStateException("a queue of " + info.blockPath() + " failed", e);
        }
    }

    /** The device as the kernel granted it. */
    public DeviceInfo info() {
        return info;
    }

    /**
     * Waits until all queues have ended, which is when the device is stopped.
     *
     * @throws IOException if a queue ended because of an error
     */
    public void awaitStopped() throws IOException, InterruptedException {
        for (Thread thread : threads) {
            thread.join();
        }
        throwFailure();
    }

    /**
     * Stops the device, waits for its queues, and deletes it. Readers get errors for what is in flight.
     *
     * <p>A device that somebody else has stopped or deleted meanwhile is no error. May be called twice.
     */
    @Override
    public synchronized void close() throws IOException {
        if (closed) {
            return;
        }
        closed = true;
        try {
            control.stop(info.id());
        } catch (LinuxException e) {
            if (e.errno() != Errno.ENODEV) {
                throw e;
            }
        } finally {
            joinQueues();
            Linux.close(fd);
        }
        control.delete(info.id());
    }

    private void joinQueues() {
        boolean interrupted = false;
        for (Thread thread : threads) {
            while (thread.isAlive()) {
                try {
                    thread.join();
                } catch (InterruptedException e) {
                    interrupted = true;
                }
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.FileMap;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * One block device, served by threads of this process.
 *
 * <p>It can be read from {@link #goLive} or {@link #recover} on, until one of these:
 *
 * <ul>
 *   <li>{@link #close} stops and deletes it;
 *   <li>{@link #release} lets go of it: with {@link Recovery} it waits for its next server, without it ends;
 *   <li>somebody stops it through the kernel, or a queue fails, which {@link #awaitStopped} tells.
 * </ul>
 */
public final class Device implements AutoCloseable {
    /** The kernel's readahead for EROFS is twice this (see {@link Parameters}). */
    private static final int OPTIMAL_IO_SHIFT = 18;

    /** For {@link #spin}: as long as a sleep would take. */
    public static final int SPIN_AUTO = -1;
    /** Most that {@link #spin} takes: longer than any processor needs to wake up. */
    public static final int MAX_SPIN_MICROS = 1000;

    private static final int PAGE_SHIFT = Integer.numberOfTrailingZeros(Linux.PAGE_SIZE);
    private static final long QUEUE_STACK_BYTES = 256 << 10;
    private static final int NODE_TRIES = 1000;
    private static final long NODE_RETRY_MILLIS = 10;
    /** A dead server's device is ready for the next after 0.03 to 0.2 s in an emulated guest. */
    private static final long RECOVERY_RETRY_MILLIS = 5;

    /**
     * Before Linux 6.16 the driver quiesces a device in a work item, which two queues may schedule twice: the second run
     * then cancels what the next server has just fetched (drivers/block/ublk_drv.c of 6.12, ublk_quiesce_work_fn). It is
     * due at once; this is the time that it gets.
     */
    private static final long SETTLE_MILLIS = 50;

    private static final long QUIESCE_MILLIS = 1000;
    /** Longer than the driver takes to give back all tags of a device that it stops: milliseconds. */
    private static final long ABORT_MILLIS = 200;

    private static final int EXIT_TRIES = 1000;
    private static final long EXIT_RETRY_NANOS = 1_000_000;

    private final ControlDevice control;
    private final DeviceInfo info;
    private final AddressSpace space;
    private final @Nullable FileMap files; // of the data path that reads files
    private final List<Thread> threads = new ArrayList<>();
    private final List<QueueCounters> counters = new ArrayList<>();
    private final Queue[] queues;
    private final int[] threadIds;
    private final CountDownLatch fetched;
    private final CountDownLatch running;
    private final AtomicBoolean aborted = new AtomicBoolean();
    private final AtomicReference<Throwable> failure = new AtomicReference<>();
    private int fd = -1;
    private int event = -1;
    private volatile boolean suspicious;
    private volatile long spinNanos;
    private boolean released;
    private boolean closed;

    private Device(ControlDevice control, DeviceInfo info, AddressSpace space, @Nullable FileMap files) {
        this.control = control;
        this.info = info;
        this.space = space;
        this.files = files;
        queues = new Queue[info.queues()];
        threadIds = new int[info.queues()];
        fetched = new CountDownLatch(info.queues());
        running = new CountDownLatch(info.queues());
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
        Device device = add(control, space, options, readOnly);
        try {
            device.goLive();
            return device;
        } catch (IOException | RuntimeException e) {
            device.close();
            throw e;
        }
    }

    /** As {@link #start}, but nobody can read it before {@link #goLive}: time to write down what it is. */
    public static Device add(ControlDevice control, AddressSpace space, DeviceOptions options) throws IOException {
        return add(control, space, options, true);
    }

    private static Device add(ControlDevice control, AddressSpace space, DeviceOptions options, boolean readOnly)
            throws IOException {
        long offered = control.features();
        options.requireDataPath(offered);
        DeviceInfo info = control.add(DeviceInfo.request(options, offered));
        try {
            if (options.unprivileged()) {
                // no command passes before udev has given the node to its user
                onceTheNodeIsReady(() -> control.find(info.id()));
            }
            control.setParameters(info.id(), parameters(space, options.blockSize(), info.maxIoBytes(), readOnly));
            return new Device(control, info, space, files(info, space, options.blockSize()));
        } catch (IOException | RuntimeException e) {
            try {
                control.delete(info.id());
            } catch (LinuxException left) {
                e.addSuppressed(left);
            }
            throw e;
        }
    }

    /** The files that the device's data path reads, if that is what it does. */
    private static @Nullable FileMap files(DeviceInfo info, AddressSpace space, int blockSize) throws IOException {
        return info.dataPath() == DataPath.ZERO_COPY ? FileMap.open(space.image(), blockSize) : null;
    }

    /** Serves the device that was added. After an exception it is only good for {@link #close}. */
    public void goLive() throws IOException {
        serveQueues();
        control.start(info.id());
    }

    /**
     * Takes over a device whose server has died or let go. Its readers, who waited, go on.
     *
     * <p>The order of the calls is the only one that works on all kernels (facts/experiments.md §1): the node must not
     * be opened before the take-over has begun, and it must not be ended unless every tag is fetched.
     *
     * @param space what the device has to hold; the size is checked
     * @param patience how long to wait for what is left of the old server
     * @throws LinuxException with EBUSY if somebody still serves the device; it is left as it was then
     */
    public static Device recover(ControlDevice control, AddressSpace space, int id, Duration patience)
            throws IOException {
        Parameters parameters = control.parameters(id);
        long sectors = parameters.sectors();
        if (sectors != space.size() >> 9) {
            throw new ImageException(
                    space.image().sources().getFirst().name(),
                    "size",
                    space.size() + " bytes",
                    (sectors << 9) + " bytes, which /dev/ublkb" + id + " has");
        }
        // while readers do not wait for this take-over yet
        FileMap files = files(info(control, id), space, 1 << parameters.logicalShift());
        Device device;
        try {
            beginRecovery(control, id, System.nanoTime() + patience.toNanos());
            if (!Feature.QUIESCE.in(control.features())) {
                sleep(SETTLE_MILLIS);
            }
            device = new Device(control, info(control, id), space, files);
        } catch (IOException | RuntimeException e) {
            if (files != null) {
                files.close();
            }
            throw e;
        }
        try {
            device.serveQueues();
            control.endRecovery(id);
            return device;
        } catch (IOException | RuntimeException e) {
            device.release();
            throw e;
        }
    }

    private static DeviceInfo info(ControlDevice control, int id) throws LinuxException {
        return control.find(id).orElseThrow(() -> new LinuxException("GET_DEV_INFO", "device " + id, Errno.ENODEV));
    }

    private static void beginRecovery(ControlDevice control, int id, long deadline) throws LinuxException {
        while (true) {
            try {
                control.startRecovery(id);
                return;
            } catch (LinuxException e) {
                boolean given = e.errno() == Errno.EINVAL && wasGivenUp(control, id);
                if (given) {
                    return;
                }
                if (e.errno() != Errno.EBUSY || System.nanoTime() - deadline > 0) {
                    throw e;
                }
            }
            sleep(RECOVERY_RETRY_MILLIS);
        }
    }

    /**
     * Whether an earlier take-over ended before it had fetched a single queue. Linux 6.12 then takes no second start of
     * it, nor does it need one.
     */
    private static boolean wasGivenUp(ControlDevice control, int id) throws LinuxException {
        DeviceInfo info = control.find(id).orElse(null);
        return info != null && info.has(Feature.USER_RECOVERY) && info.state() == DeviceState.QUIESCED;
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

    private interface NodeCall<T> {
        T call() throws LinuxException;
    }

    /** The node appears a moment after the device, is given to its user after that, and udev may have it open. */
    private static <T> T onceTheNodeIsReady(NodeCall<T> call) throws LinuxException {
        for (int tries = 1; ; tries++) {
            try {
                return call.call();
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

    private void serveQueues() throws IOException {
        event = Linux.event();
        fd = onceTheNodeIsReady(() -> Linux.open(info.charPath(), Linux.O_RDWR));
        for (int queue = 0; queue < info.queues(); queue++) {
            int id = queue;
            QueueCounters counter = new QueueCounters();
            counters.add(counter);
            Thread thread = Thread.ofPlatform()
                    .name("ublk" + info.id() + "-q" + id)
                    .stackSize(QUEUE_STACK_BYTES)
                    .unstarted(() -> serve(id, counter));
            threads.add(thread);
        }
        threads.forEach(Thread::start);
        await(fetched);
        throwFailure();
    }

    private void serve(int queueId, QueueCounters counter) {
        boolean ready = false;
        try {
            prepareThread(queueId);
            Queue queue = Queue.open(fd, info, queueId, space, files, counter, event);
            threadIds[queueId] = Linux.threadId();
            synchronized (queues) { // with the device's word in force, which may be changed from here on
                queue.suspect(suspicious);
                queue.spin(spinNanos);
                queues[queueId] = queue;
            }
            ready = true;
            fetched.countDown();
            queue.run(this::endAll);
        } catch (Throwable e) {
            failure.compareAndSet(null, e);
            wakeQueues(); // half a device hangs its readers; a whole one can be recovered
        } finally {
            if (!ready) {
                fetched.countDown(); // whoever waits sees the failure
            }
            running.countDown();
        }
    }

    /**
     * Ends what the driver has begun to end. Stopping a device gives back every tag of every queue. Quiescing it, which
     * is anybody's right who may control it, gives back only those that wait for a request: one that has a request is
     * fetched again with its commit, and after that never given back (drivers/block/ublk_drv.c of 7.2,
     * ublk_ctrl_quiesce_dev), so whoever waits for it does so for ever, and with it all readers.
     */
    private void endAll() {
        if (aborted.compareAndSet(false, true)) {
            Thread.ofPlatform()
                    .name("ublk" + info.id() + "-end")
                    .stackSize(QUEUE_STACK_BYTES)
                    .daemon()
                    .start(this::wakeThoseThatStay);
        }
    }

    private void wakeThoseThatStay() {
        try {
            if (running.await(ABORT_MILLIS, TimeUnit.MILLISECONDS)) {
                return;
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        synchronized (queues) {
            if (event >= 0) {
                wakeQueues();
            }
        }
    }

    private void wakeQueues() {
        try {
            Linux.raise(event);
        } catch (LinuxException e) {
            failure.compareAndSet(null, e);
        }
    }

    private void prepareThread(int queueId) throws LinuxException {
        Linux.setAffinity(control.affinity(info.id(), queueId));
        if (info.queues() > 1) {
            // It then has only the processors of its readers. Woken by the first request, it would take the reader's
            // place before there is a second: 57 instead of 82 thousand requests a second (docs/hot-path.md).
            Linux.preemptNobody();
        }
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
        Throwable e = failure.get();
        if (e instanceof IOException io) {
            throw io;
        }
        if (e != null) {
            throw new IllegalStateException("a queue of " + info.blockPath() + " failed", e);
        }
    }

    /** The device as the kernel granted it. */
    public DeviceInfo info() {
        return info;
    }

    /** What all its queues have done so far. */
    public DeviceCounters counters() {
        DeviceCounters sum = DeviceCounters.NONE;
        for (QueueCounters counter : counters) {
            sum = counter.plus(sum);
        }
        return sum;
    }

    /**
     * Says whether a file behind the device is known to have lost bytes. Then each request is checked before its bytes
     * are promised to the kernel, so that its failure is counted on every kernel.
     */
    public void suspect(boolean suspect) {
        suspicious = suspect;
        tellQueues(queue -> queue.suspect(suspect));
    }

    private void tellQueues(Consumer<Queue> word) {
        synchronized (queues) {
            for (Queue queue : queues) {
                if (queue != null) {
                    word.accept(queue);
                }
            }
        }
    }

    /**
     * Lets queues look out for requests for a while before they sleep until there is one. Faster for whoever waits for one read before
     * the next, and costs processor time while reads keep coming; where none comes in time, queues try it less and less. With one
     * processor they always sleep at once. From any thread, at any time.
     *
     * @param micros for how long at most, 0 to {@link #MAX_SPIN_MICROS}; 0 to sleep at once; {@link #SPIN_AUTO} for as long as it
     *     takes on this machine to wake a reader and to be woken by it, which is in force some 20 ms later
     */
    public void spin(int micros) {
        if (Runtime.getRuntime().availableProcessors() == 1) {
            return;
        }
        if (micros == SPIN_AUTO) {
            Thread.ofPlatform().name("ublk-spin").daemon().start(this::spinAsLongAsASleepTakes);
        } else {
            spinFor(micros * 1000L);
        }
    }

    private void spinAsLongAsASleepTakes() {
        try {
            spinFor(WakeTime.roundTripNanos());
        } catch (LinuxException e) {
            // a process that may not choose its processors, as in some sandboxes: its queues sleep at once
        }
    }

    private void spinFor(long nanos) {
        spinNanos = nanos;
        tellQueues(queue -> queue.spin(nanos));
    }

    /**
     * Waits until all queues have ended, which is when the device is stopped or quiesced.
     *
     * @throws IOException if a queue ended because of an error
     */
    public void awaitStopped() throws IOException, InterruptedException {
        running.await();
        throwFailure();
    }

    /**
     * Lets go of the device: its queues end and it is ready for another server, which may be in this process. Requests
     * that were on their way wait for it. May be called at any time, also twice.
     */
    public synchronized void release() {
        if (released) {
            return;
        }
        released = true;
        if (info.has(Feature.QUIESCE)) {
            try {
                control.quiesce(info.id(), QUIESCE_MILLIS);
            } catch (LinuxException e) {
                // It is not live, or too busy: the queues go all the same, and the driver takes back what they had.
            }
        }
        if (event >= 0) {
            wakeQueues();
        }
        closeNode();
    }

    private void closeNode() {
        joinQueues();
        for (int i = 0; i < queues.length; i++) {
            if (queues[i] != null) {
                awaitExit(threadIds[i]);
                queues[i].close();
                queues[i] = null;
            }
        }
        if (files != null) {
            files.close();
        }
        if (fd >= 0) {
            Linux.close(fd);
            fd = -1;
        }
        synchronized (queues) {
            if (event >= 0) {
                Linux.close(event);
                event = -1;
            }
        }
    }

    /**
     * Stops the device, waits for its queues, and deletes it. Readers get errors for what is in flight.
     *
     * <p>A device that somebody else has stopped or deleted meanwhile is no error, nor is one that was released: that
     * one is left alone. May be called twice.
     */
    @Override
    public synchronized void close() throws IOException {
        if (closed || released) {
            return;
        }
        closed = true;
        released = true;
        try {
            control.stop(info.id());
        } catch (LinuxException e) {
            if (e.errno() != Errno.ENODEV) {
                wakeQueues();
                throw e;
            }
        } finally {
            closeNode();
        }
        // Not waiting for the last reader to close the device: fio 3.33, for one, spins on a dead device until its time
        // is up.
        control.deleteSoon(info.id());
    }

    /**
     * Waits until the kernel's thread is gone too, a moment after Java's. A ring that still has commands is only closed
     * then: Linux 6.12 loses count of them, and panics, when their thread and the ring end at the same time.
     */
    private static void awaitExit(int threadId) {
        Path thread = Path.of("/proc/self/task", Integer.toString(threadId));
        for (int tries = 0; tries < EXIT_TRIES && Files.exists(thread); tries++) {
            LockSupport.parkNanos(EXIT_RETRY_NANOS);
        }
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

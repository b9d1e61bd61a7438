// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.ublk.Recovery;
import dev.erofsublk.ublk.UblkUnavailableException;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.atomic.AtomicLong;

/**
 * The devices that this process serves.
 *
 * <p>Thread-safe. Operations on different devices go on at the same time; there is no lock that is held while the
 * kernel is asked for something. Each device has a keeper, a thread that waits for its end and decides what that means.
 */
public final class Daemon {
    private static final Duration PATIENCE = Duration.ofSeconds(10);
    private static final long KEEPER_STACK_BYTES = 256 << 10;

    private final StateDirectory state;
    private final AllowedPaths allowed;
    private final boolean endsWithLastDevice;
    private final Map<DeviceId, ServedDevice> served = new ConcurrentSkipListMap<>();
    private final AtomicLong takeovers = new AtomicLong();
    /** Guards the two below: how many adds are on their way, and whether any more are taken. */
    private final Object admission = new Object();

    private int adding;
    private boolean closing;

    /**
     * @param endsWithLastDevice whether there is nothing left to do once all devices are gone; see {@link #awaitEnd}
     */
    public Daemon(StateDirectory state, AllowedPaths allowed, boolean endsWithLastDevice) {
        this.state = state;
        this.allowed = allowed;
        this.endsWithLastDevice = endsWithLastDevice;
    }

    /** Adds a device; it can be read when this returns. */
    ServedDevice add(DeviceSpec spec) throws IOException {
        synchronized (admission) {
            if (closing) {
                throw new ClosingException();
            }
            adding++;
        }
        try {
            ServedDevice device = ServedDevice.add(spec, allowed, state);
            keep(device);
            DeviceNode.await(Path.of(device.path()), spec.unprivileged());
            Log.info("%s serves %s", device.path(), spec.source());
            return device;
        } catch (UblkUnavailableException e) {
            throw Backends.instead(e);
        } catch (LinuxException e) {
            throw inWords(e, spec);
        } finally {
            synchronized (admission) {
                adding--;
                admission.notifyAll();
            }
        }
    }

    /** The daemon is ending; the next one will take the request. */
    static final class ClosingException extends IOException {
        ClosingException() {
            super("the daemon is ending");
        }
    }

    private static IOException inWords(LinuxException e, DeviceSpec spec) {
        return switch (e.errno()) {
            case Errno.EBUSY ->
                e.call().startsWith("NBD")
                        ? new DaemonException(DeviceId.nbd(spec.number()) + " is already in use")
                        : e;
            case Errno.EPERM ->
                e.call().startsWith("NBD")
                        ? new DaemonException("the nbd driver does not listen to user id %d: run as root"
                                .formatted(Linux.effectiveUserId()))
                        : e;
            case Errno.EEXIST ->
                new DaemonException("device id " + spec.number() + " is already in use (see 'erofs-ublk list')");
            case Errno.ENOSPC, Errno.EACCES ->
                e.call().startsWith("UBLK")
                        ? new DaemonException("no further ublk device is allowed:"
                                + " /sys/module/ublk_drv/parameters/ublks_max is reached (" + e.getMessage() + ")")
                        : e;
            default -> e;
        };
    }

    private void keep(ServedDevice device) {
        served.put(device.id(), device);
        Thread.ofPlatform()
                .name(Path.of(device.path()).getFileName() + "-keeper")
                .stackSize(KEEPER_STACK_BYTES)
                .daemon()
                .start(() -> keeper(device));
    }

    private void keeper(ServedDevice device) {
        try {
            device.awaitStopped();
        } catch (IOException e) {
            Log.error("%s: a queue failed: %s", device.path(), e.getMessage());
        } catch (InterruptedException e) {
            return;
        }
        if (device.isEnding()) {
            return;
        }
        try {
            Optional<ServedDevice> again = device.recoverAgain(PATIENCE);
            if (again.isEmpty()) {
                forget(device);
                Log.info("%s was stopped and is gone", device.path());
            } else {
                keep(again.get());
                takeovers.incrementAndGet();
                Log.warn("%s lost its queues and was taken over again", device.path());
            }
        } catch (IOException e) {
            Log.error("%s cannot be served any more: %s", device.path(), e.getMessage());
            device.release();
            served.remove(device.id(), device);
            noteEnd();
        }
    }

    /** The record goes first: the kernel gives the number to somebody else only after the device is let go of. */
    private void forget(ServedDevice device) throws IOException {
        state.remove(device.id());
        device.release();
        served.remove(device.id(), device);
        noteEnd();
    }

    /**
     * Waits until a device that the kernel has deleted is let go of here as well: its keeper does that, at once but in its
     * own time. Whoever hears that it is deleted finds it in no list and no record.
     */
    void awaitForgotten(DeviceId id) throws InterruptedException {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        synchronized (admission) {
            while (served.containsKey(id) && System.nanoTime() < deadline) {
                admission.wait(100);
            }
        }
    }

    private void noteEnd() {
        synchronized (admission) {
            admission.notifyAll();
        }
    }

    /** What is served now, by ascending id. */
    Collection<ServedDevice> devices() {
        return served.values();
    }

    /** How many devices this process has taken over. */
    long takeovers() {
        return takeovers.get();
    }

    /** The ids of all devices that are written down. */
    List<DeviceId> recorded() throws IOException {
        return state.ids();
    }

    Optional<ServedDevice> device(DeviceId id) {
        return Optional.ofNullable(served.get(id));
    }

    /** Takes over all devices of ours that have no server. What fails is logged, and the others are not affected. */
    void recoverAll(PreparedImages prepared) throws IOException {
        List<Thread> threads = new ArrayList<>();
        for (DeviceId id : state.ids()) {
            threads.add(Thread.ofPlatform().name("recover-" + id).start(() -> {
                try {
                    recover(id, prepared);
                } catch (IOException | RuntimeException e) {
                    Log.error("%s is not taken over: %s", id, e.getMessage());
                }
            }));
        }
        for (Thread thread : threads) {
            join(thread);
        }
        prepared.close();
    }

    private static void join(Thread thread) throws IOException {
        try {
            thread.join();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", e);
        }
    }

    /** Takes over a device; nothing happens if it is served here already. */
    void recover(DeviceId id) throws IOException {
        try (PreparedImages nothing = new PreparedImages(state, allowed)) {
            recover(id, nothing);
        }
    }

    private void recover(DeviceId id, PreparedImages prepared) throws IOException {
        if (served.containsKey(id)) {
            return;
        }
        long start = System.nanoTime();
        DeviceRecord record = state.read(id)
                .orElseThrow(() -> new DaemonException(id + " is not known here: there is no record of it"));
        if (!ServedDevice.isWaiting(record, state)) {
            state.remove(id);
            return;
        }
        MappedImage mapped = prepared.take(record);
        ServedDevice device = ServedDevice.recover(record, mapped, state, PATIENCE);
        keep(device);
        takeovers.incrementAndGet();
        Log.info(
                "%s is taken over, %d ms, and serves %s",
                device.path(),
                (System.nanoTime() - start) / 1_000_000,
                record.spec().source());
    }

    /**
     * Waits until there is nothing left to do, and takes no more adds from then on; for ever in a daemon that stays, and
     * while the devices are handed over or deleted: whoever began that ends the process when it is done.
     */
    public void awaitEnd() throws InterruptedException {
        synchronized (admission) {
            while (closing || !endsWithLastDevice || adding > 0 || !served.isEmpty()) {
                admission.wait();
            }
            closing = true;
        }
    }

    /** Takes no more adds, and waits for those that are on their way. */
    private void closeAdmission() {
        synchronized (admission) {
            closing = true;
            admission.notifyAll();
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            while (adding > 0 && System.nanoTime() < deadline) {
                try {
                    admission.wait(100);
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                    return;
                }
            }
        }
    }

    /** Lets go of all devices, for the next daemon to take over; readers wait meanwhile. */
    public void handOverAll() {
        closeAdmission();
        inParallel("hand over", device -> {
            device.handOver();
            if (device.record().spec().recovery() == Recovery.NONE) {
                state.remove(device.id());
            }
        });
    }

    /** Stops and deletes all devices. */
    public void deleteAll() {
        closeAdmission();
        inParallel("delete", device -> {
            device.close();
            state.remove(device.id());
        });
    }

    @FunctionalInterface
    private interface Action {
        void on(ServedDevice device) throws IOException;
    }

    private void inParallel(String what, Action action) {
        Map<DeviceId, Thread> threads = new TreeMap<>();
        for (ServedDevice device : served.values()) {
            threads.put(device.id(), Thread.ofPlatform().daemon().start(() -> act(what, action, device)));
        }
        for (Thread thread : threads.values()) {
            try {
                if (!thread.join(PATIENCE)) {
                    Log.warn("%s: a device does not end", what);
                }
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return;
            }
        }
    }

    private static void act(String what, Action action, ServedDevice device) {
        try {
            action.on(device);
        } catch (IOException e) {
            Log.error("cannot %s %s: %s", what, device.path(), e.getMessage());
        }
    }
}

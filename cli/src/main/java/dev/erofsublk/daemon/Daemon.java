// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.daemon.ServedDevice.MappedImage;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DeviceInfo;
import dev.erofsublk.ublk.DeviceState;
import dev.erofsublk.ublk.Recovery;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentSkipListMap;

/**
 * The devices that this process serves.
 *
 * <p>Thread-safe. Operations on different devices go on at the same time; there is no lock that is held while the
 * kernel is asked for something. Each device has a keeper, a thread that waits for its end and decides what that means.
 */
public final class Daemon {
    private static final Duration PATIENCE = Duration.ofSeconds(10);
    private static final long KEEPER_STACK_BYTES = 256 << 10;
    private static final int NODE_TRIES = 500;
    private static final long NODE_RETRY_MILLIS = 10;

    private final StateDirectory state;
    private final AllowedPaths allowed;
    private final boolean endsWithLastDevice;
    private final Map<Integer, ServedDevice> served = new ConcurrentSkipListMap<>();
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
            awaitNode(Path.of(device.info().blockPath()));
            Log.info("%s serves %s", device.info().blockPath(), spec.source());
            return device;
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
            case Errno.EEXIST ->
                new DaemonException("device id " + spec.id() + " is already in use (see 'erofs-ublk list')");
            case Errno.ENOSPC, Errno.EACCES ->
                e.call().startsWith("UBLK")
                        ? new DaemonException("no further ublk device is allowed:"
                                + " /sys/module/ublk_drv/parameters/ublks_max is reached (" + e.getMessage() + ")")
                        : e;
            default -> e;
        };
    }

    private static void awaitNode(Path node) throws IOException {
        for (int tries = 0; !Files.exists(node); tries++) {
            if (tries == NODE_TRIES) {
                throw new DaemonException(node + " did not appear: is devtmpfs mounted on /dev?");
            }
            pause(NODE_RETRY_MILLIS);
        }
    }

    private static void pause(long millis) throws IOException {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", e);
        }
    }

    private void keep(ServedDevice device) {
        served.put(device.id(), device);
        Thread.ofPlatform()
                .name("ublk" + device.id() + "-keeper")
                .stackSize(KEEPER_STACK_BYTES)
                .daemon()
                .start(() -> keeper(device));
    }

    private void keeper(ServedDevice device) {
        try {
            device.awaitStopped();
        } catch (IOException e) {
            Log.error("%s: a queue failed: %s", device.info().blockPath(), e.getMessage());
        } catch (InterruptedException e) {
            return;
        }
        if (device.isEnding()) {
            return;
        }
        try {
            if (isGone(device)) {
                forget(device);
                Log.info("%s was stopped and is gone", device.info().blockPath());
            } else {
                ServedDevice again = device.recoverAgain(PATIENCE);
                keep(again);
                Log.warn(
                        "%s lost its queues and was taken over again",
                        device.info().blockPath());
            }
        } catch (IOException e) {
            Log.error("%s cannot be served any more: %s", device.info().blockPath(), e.getMessage());
            device.release();
            served.remove(device.id(), device);
            noteEnd();
        }
    }

    /** Whether the device was stopped for good: one that is only without a server can be served again. */
    private static boolean isGone(ServedDevice device) throws IOException {
        try (ControlDevice control = ControlDevice.open()) {
            Optional<DeviceInfo> info = control.find(device.id());
            return info.isEmpty()
                    || info.get().token() != device.record().token()
                    || info.get().state() == DeviceState.DEAD;
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
    void awaitForgotten(int id) throws InterruptedException {
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

    /** The ids of all devices that are written down. */
    List<Integer> recorded() throws IOException {
        return state.ids();
    }

    Optional<ServedDevice> device(int id) {
        return Optional.ofNullable(served.get(id));
    }

    /** Takes over all devices of ours that have no server. What fails is logged, and the others are not affected. */
    void recoverAll(PreparedImages prepared) throws IOException {
        List<Thread> threads = new ArrayList<>();
        for (int id : state.ids()) {
            threads.add(Thread.ofPlatform().name("recover-" + id).start(() -> {
                try {
                    recover(id, prepared);
                } catch (IOException | RuntimeException e) {
                    Log.error("/dev/ublkb%d is not taken over: %s", id, e.getMessage());
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

    /** Takes over device {@code id}; nothing happens if it is served here already. */
    void recover(int id) throws IOException {
        try (PreparedImages nothing = new PreparedImages(state, allowed)) {
            recover(id, nothing);
        }
    }

    private void recover(int id, PreparedImages prepared) throws IOException {
        if (served.containsKey(id)) {
            return;
        }
        long start = System.nanoTime();
        DeviceRecord record = state.read(id)
                .orElseThrow(
                        () -> new DaemonException("device " + id + " is not known here: there is no record of it"));
        if (!isWaiting(record)) {
            state.remove(id);
            return;
        }
        MappedImage mapped = prepared.take(record);
        ServedDevice device = ServedDevice.recover(record, mapped, PATIENCE);
        keep(device);
        Log.info(
                "%s is taken over, %d ms, and serves %s",
                device.info().blockPath(),
                (System.nanoTime() - start) / 1_000_000,
                record.spec().source());
    }

    /** Whether the kernel still has the device of this record, without a server. */
    private static boolean isWaiting(DeviceRecord record) throws IOException {
        try (ControlDevice control = ControlDevice.open()) {
            DeviceInfo info = control.find(record.id()).orElse(null);
            if (info == null || info.token() != record.token()) {
                return false;
            }
            if (info.state() == DeviceState.DEAD) {
                control.delete(record.id()); // it was not yet, or no longer, to be read
                return false;
            }
            return true;
        }
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
        Map<Integer, Thread> threads = new TreeMap<>();
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
            Log.error("cannot %s %s: %s", what, device.info().blockPath(), e.getMessage());
        }
    }
}

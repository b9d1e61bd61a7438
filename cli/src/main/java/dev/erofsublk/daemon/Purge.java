// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.nbd.NbdInfo;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DeviceInfo;
import dev.erofsublk.ublk.DeviceState;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** Removes what dead servers have left behind: devices, and the records of devices. */
public final class Purge {
    private static final long SECOND_LOOK_MILLIS = 500;

    private final StateDirectory state;
    private final boolean foreign;
    private final List<String> purged = new ArrayList<>();
    private final List<String> failures = new ArrayList<>();

    private Purge(StateDirectory state, boolean foreign) {
        this.state = state;
        this.foreign = foreign;
    }

    /**
     * Deletes devices without a server.
     *
     * @param foreign whether also those that other programs have made; only of ublk, as the nbd driver does not tell
     *     whether a device has a server
     * @return what was deleted
     */
    public static List<String> run(StateDirectory state, boolean foreign) throws IOException {
        Purge purge = new Purge(state, foreign);
        Optional<ControlDevice> ublk = Backends.ublk();
        if (ublk.isPresent()) {
            try (ControlDevice control = ublk.get()) {
                for (int id : ControlDevice.ids()) {
                    purge.consider(DeviceId.ublk(id), () -> purge.isOrphan(control, id));
                }
            }
        }
        for (NbdInfo device : NbdInfo.all()) {
            purge.consider(DeviceId.nbd(device.index()), () -> purge.isOrphan(device));
        }
        forgetGone(state);
        if (!purge.failures.isEmpty()) {
            throw new DaemonException(String.join("; ", purge.failures));
        }
        return purge.purged;
    }

    private interface Question {
        boolean answer() throws IOException;
    }

    private void consider(DeviceId id, Question isOrphan) {
        try {
            // One that is only just being added, or taken over, looks the same; a moment later it does not.
            if (isOrphan.answer()) {
                Deletion.pause(SECOND_LOOK_MILLIS);
                if (isOrphan.answer()) {
                    new Deletion(true, false).delete(id);
                    purged.add(id.path());
                }
            }
        } catch (IOException e) {
            failures.add(String.valueOf(e.getMessage()));
        }
    }

    /** Linux 6.12 keeps the pid of the dead server, newer kernels do not. */
    private boolean isOrphan(ControlDevice control, int id) throws IOException {
        DeviceInfo info = control.find(id).orElse(null);
        return info != null
                && info.state() != DeviceState.LIVE
                && !isAlive(info.pid())
                && (foreign || DeviceRecord.isOurs(info.token()));
    }

    private static boolean isAlive(int pid) {
        return pid > 0 && Files.exists(Path.of("/proc", Integer.toString(pid)));
    }

    /** The driver does not tell whether a device has a server; whoever serves it here does. */
    private boolean isOrphan(NbdInfo seen) throws IOException {
        NbdInfo device = NbdInfo.find(seen.index()).orElse(null);
        NbdIdentity identity = device == null ? null : NbdIdentity.of(device).orElse(null);
        if (device == null || identity == null || !identity.directory().equals(state.toString())) {
            return false;
        }
        DeviceId id = DeviceId.nbd(device.index());
        DeviceRecord record = state.read(id).orElse(null);
        if (record != null && NbdIdentity.of(record.token(), state).equals(identity)) {
            return !isServedByDaemon(state, id);
        }
        return !isAlive(device.pid()) && !state.isServedByCommand(id);
    }

    /** Whether there is a daemon that serves {@code device}, or one that is on its way there. */
    private static boolean isServedByDaemon(StateDirectory state, DeviceId device) throws IOException {
        Optional<StateDirectory.Lock> lock = state.tryLock();
        if (lock.isPresent()) {
            lock.get().close();
            return false;
        }
        Optional<ControlClient> client = ControlClient.connect(state);
        if (client.isEmpty()) {
            return true;
        }
        try (ControlClient daemon = client.get()) {
            JsonObject answer = daemon.call(new JsonObject().put("command", "list"));
            for (JsonObject served : answer.objects("devices")) {
                if (served.string("device").equals(device.path())) {
                    return true;
                }
            }
            return false;
        }
    }

    /** Removes the records of devices that the kernel does not have, unless a daemon is there to do so. */
    public static void forgetGone(StateDirectory state) throws IOException {
        List<DeviceId> ids = state.ids();
        if (ids.isEmpty()) {
            return;
        }
        Optional<StateDirectory.Lock> lock = state.tryLock();
        if (lock.isEmpty()) {
            return;
        }
        try {
            for (DeviceId id : ids) {
                DeviceRecord record = state.read(id).orElse(null);
                if (record != null && !isThere(record, state)) {
                    state.remove(id);
                }
            }
        } finally {
            lock.get().close();
        }
    }

    private static boolean isThere(DeviceRecord record, StateDirectory state) throws IOException {
        return switch (record.spec().backend()) {
            case UBLK -> {
                try (ControlDevice control = ControlDevice.open()) {
                    yield control.find(record.number())
                            .filter(info -> info.token() == record.token())
                            .isPresent();
                }
            }
            case NBD ->
                NbdInfo.find(record.number())
                        .filter(NbdIdentity.of(record.token(), state)::is)
                        .isPresent();
        };
    }
}

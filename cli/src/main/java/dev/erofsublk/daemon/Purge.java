// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

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

    private Purge() {}

    /**
     * Deletes devices without a server.
     *
     * @param foreign whether also those that other programs have made
     * @return what was deleted
     */
    public static List<String> run(StateDirectory state, boolean foreign) throws IOException {
        List<String> purged = new ArrayList<>();
        List<String> failures = new ArrayList<>();
        try (ControlDevice control = ControlDevice.open()) {
            for (int id : ControlDevice.ids()) {
                try {
                    if (isOrphan(control, id, foreign)) {
                        DeviceId device = DeviceId.ublk(id);
                        new Deletion(true, false).delete(device);
                        purged.add(device.path());
                    }
                } catch (IOException e) {
                    failures.add(String.valueOf(e.getMessage()));
                }
            }
        }
        forgetGone(state);
        if (!failures.isEmpty()) {
            throw new DaemonException(String.join("; ", failures));
        }
        return purged;
    }

    private static boolean isOrphan(ControlDevice control, int id, boolean foreign) throws IOException {
        Optional<DeviceInfo> info = control.find(id).filter(Purge::isOrphan);
        if (info.isEmpty() || !(foreign || DeviceRecord.isOurs(info.get().token()))) {
            return false;
        }
        // One that is only just being added, or taken over, looks the same; a moment later it does not.
        Deletion.pause(SECOND_LOOK_MILLIS);
        long token = info.get().token();
        return control.find(id)
                .filter(Purge::isOrphan)
                .filter(later -> later.token() == token)
                .isPresent();
    }

    /** Linux 6.12 keeps the pid of the dead server, newer kernels do not. */
    private static boolean isOrphan(DeviceInfo info) {
        return info.state() != DeviceState.LIVE && !isServer(info.pid());
    }

    private static boolean isServer(int pid) {
        return pid > 0 && Files.exists(Path.of("/proc", Integer.toString(pid)));
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
        try (ControlDevice control = ControlDevice.open()) {
            for (DeviceId id : ids) {
                DeviceRecord record = state.read(id).orElse(null);
                DeviceInfo info = control.find(id.number()).orElse(null);
                if (record != null && (info == null || info.token() != record.token())) {
                    state.remove(id);
                }
            }
        } finally {
            lock.get().close();
        }
    }
}

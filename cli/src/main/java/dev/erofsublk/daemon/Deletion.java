// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.nbd.NbdDevice;
import dev.erofsublk.nbd.NbdInfo;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DeviceInfo;
import dev.erofsublk.ublk.DeviceState;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * Stops and deletes a device, whoever serves it; its server, if there is one, notices by itself.
 *
 * @param force whether also one that somebody holds, who then gets errors
 * @param async whether not to wait until it is gone
 */
public record Deletion(boolean force, boolean async) {
    private static final int TRIES = 1000;
    private static final long RETRY_MILLIS = 10;
    /** udev looks at a new device for a moment: that is no reason to refuse. */
    private static final int BUSY_TRIES = 100;

    /**
     * Stops and deletes a device.
     *
     * @throws DaemonException naming who holds it, or if there is no such device
     */
    public void delete(DeviceId id) throws IOException {
        switch (id.backend()) {
            case UBLK -> deleteUblk(id.number());
            case NBD -> deleteNbd(id);
        }
    }

    private void deleteUblk(int id) throws IOException {
        try (ControlDevice control = ControlDevice.open()) {
            DeviceInfo device =
                    control.find(id).orElseThrow(() -> new DaemonException("there is no ublk device " + id));
            if (force || device.state() == DeviceState.DEAD) {
                control.stop(id);
            } else {
                stopUnheld(device.blockPath(), () -> stopIfIdle(control, id));
            }
            // Asynchronously, so that a process which keeps the device open cannot keep this one waiting for ever.
            control.deleteSoon(id);
            if (!async) {
                Path node = Path.of(device.charPath());
                Path kernel = Path.of("/sys/class/ublk-char", node.getFileName().toString());
                awaitGone(device.blockPath(), () -> !Files.exists(node) && !Files.exists(kernel));
            }
        }
    }

    private void deleteNbd(DeviceId id) throws IOException {
        NbdInfo device = NbdInfo.find(id.number()).orElseThrow(() -> new DaemonException(id + " is not connected"));
        if (!force && NbdIdentity.of(device).isEmpty()) {
            throw new DaemonException(id + " was made by another program: use --force to disconnect it all the same");
        }
        if (force) {
            NbdDevice.disconnect(id.number());
        } else {
            stopUnheld(id.path(), () -> NbdDevice.disconnectIfIdle(id.number()));
        }
        if (!async) {
            awaitGone(id.path(), () -> NbdInfo.find(id.number()).isEmpty());
        }
    }

    private interface Attempt {
        boolean succeeds() throws IOException;
    }

    private static void stopUnheld(String path, Attempt stopIfIdle) throws IOException {
        for (int tries = 1; ; tries++) {
            List<String> holders = Holders.of(path);
            if (holders.isEmpty()) {
                if (stopIfIdle.succeeds()) {
                    return;
                }
                holders = List.of("open somewhere");
            }
            boolean passing = holders.stream().allMatch(holder -> holder.startsWith("open "));
            if (!passing || tries == BUSY_TRIES) {
                throw new DaemonException("%s is %s: unmount or close it first, or use --force"
                        .formatted(path, String.join(", ", holders)));
            }
            pause(RETRY_MILLIS);
        }
    }

    /** Stops a device that nobody has open, in one step where the kernel can. */
    private static boolean stopIfIdle(ControlDevice control, int id) throws IOException {
        try {
            control.tryStop(id);
            return true;
        } catch (LinuxException e) {
            if (e.errno() == Errno.EBUSY) {
                return false;
            }
            if (e.errno() != Errno.EOPNOTSUPP && e.errno() != Errno.ENODEV && e.errno() != Errno.EINVAL) {
                throw e;
            }
        }
        control.stop(id);
        return true;
    }

    private static void awaitGone(String path, Attempt isGone) throws IOException {
        for (int tries = 0; !isGone.succeeds(); tries++) {
            if (tries == TRIES) {
                throw new DaemonException("%s is stopped, and goes away when the last process closes it: %s"
                        .formatted(path, describe(Holders.of(path))));
            }
            pause(RETRY_MILLIS);
        }
    }

    private static String describe(List<String> holders) {
        return holders.isEmpty() ? "its server, perhaps" : String.join(", ", holders);
    }

    static void pause(long millis) throws IOException {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", e);
        }
    }
}

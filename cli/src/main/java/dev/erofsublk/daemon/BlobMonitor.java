// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.ublk.DeviceCounters;
import dev.erofsublk.uring.FileStatus;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.nio.file.Files;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/**
 * Notices, once a second and beside the threads that serve, what goes wrong with devices and the files behind them, and
 * says so in the log: at most a line a second for each device, and one for each thing that happened to a file.
 */
final class BlobMonitor {
    private static final long PERIOD_MILLIS = 1000;

    private final Daemon daemon;
    private final Map<ServedDevice, Long> errors = new HashMap<>();
    private final Map<Blob, String> said = new HashMap<>();
    private final Set<ServedDevice> suspected = new HashSet<>();

    private BlobMonitor(Daemon daemon) {
        this.daemon = daemon;
    }

    /** Watches for as long as the process lives. */
    static void start(Daemon daemon) {
        Thread.ofPlatform().name("monitor").daemon().start(new BlobMonitor(daemon)::run);
    }

    private void run() {
        try {
            while (true) {
                Thread.sleep(PERIOD_MILLIS);
                look();
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void look() {
        Set<Blob> blobs = new HashSet<>();
        for (ServedDevice device : daemon.devices()) {
            if (device.isEnding()) {
                continue; // its descriptors may be somebody else's by now
            }
            try {
                device.history.saveIfDue();
                sayErrors(device);
                boolean damaged = false;
                for (Blob blob : FileIdentity.blobs(device.image())) {
                    blobs.add(blob);
                    damaged |= look(device, blob);
                }
                if (damaged ? suspected.add(device) : suspected.remove(device)) {
                    device.suspect(damaged);
                }
            } catch (IOException | RuntimeException e) {
                Log.debug("%s: %s", device.path(), e.getMessage());
            }
        }
        errors.keySet().retainAll(daemon.devices());
        suspected.retainAll(daemon.devices());
        said.keySet().retainAll(blobs);
    }

    private void sayErrors(ServedDevice device) {
        DeviceCounters counters = device.counters();
        Long before = errors.put(device, counters.errors());
        long more = counters.errors() - (before == null ? 0 : before);
        if (more > 0) {
            Log.error(
                    "%s: %d read%s failed, the last at byte %d (%s): bytes cannot be read there",
                    device.path(),
                    more,
                    more == 1 ? "" : "s",
                    counters.lastErrorOffset(),
                    device.origin(counters.lastErrorOffset()));
        }
    }

    /** Whether bytes of {@code blob} are missing. */
    private boolean look(ServedDevice device, Blob blob) throws IOException {
        FileStatus now = Linux.status(blob.fd());
        boolean damaged = now.size() < blob.size();
        String what = "";
        if (damaged) {
            what = "was truncated to %d bytes, expected %d: reads of the rest fail".formatted(now.size(), blob.size());
        } else if (now.modifiedNanos() != blob.status().modifiedNanos()) {
            what = "was modified while it is served";
        } else if (!Files.exists(blob.path())) {
            what = "was removed; it is served from its open descriptor, and cannot be taken over after a restart";
        } else if (!Files.getAttribute(blob.path(), "unix:ino")
                .equals(blob.status().inode())) {
            what = "was replaced; the old one is served from its open descriptor";
        }
        String before = said.put(blob, what);
        if (!what.isEmpty() && !what.equals(before)) {
            Log.warn("%s: %s %s", device.path(), blob.name(), what);
        }
        return damaged;
    }
}

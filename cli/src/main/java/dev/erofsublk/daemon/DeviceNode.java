// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** The node of a device, which devtmpfs makes a moment after the kernel has the device. */
public final class DeviceNode {
    private static final int TRIES = 500;
    private static final long RETRY_MILLIS = 10;

    private DeviceNode() {}

    /**
     * Waits until it is there.
     *
     * @param own also until udev has made it this user's; if that does not happen, the log says so
     * @throws DaemonException if it does not appear
     */
    public static void await(Path node, boolean own) throws IOException {
        for (int tries = 0; !(own ? Files.isReadable(node) : Files.exists(node)); tries++) {
            if (tries == TRIES) {
                if (Files.exists(node)) {
                    Log.warn("%s may not be read by user id %d: see packaging/", node, Linux.effectiveUserId());
                    return;
                }
                throw new DaemonException(node + " did not appear: is devtmpfs mounted on /dev?");
            }
            pause();
        }
    }

    private static void pause() throws IOException {
        try {
            Thread.sleep(RETRY_MILLIS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", e);
        }
    }
}

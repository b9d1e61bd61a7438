// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** The node of a device, which devtmpfs makes a moment after the kernel has the device. */
final class DeviceNode {
    private static final int TRIES = 500;
    private static final long RETRY_MILLIS = 10;

    private DeviceNode() {}

    static void await(Path node) throws IOException, InterruptedException {
        for (int tries = 0; !Files.exists(node); tries++) {
            if (tries == TRIES) {
                throw new CommandException(node + " did not appear: is devtmpfs mounted on /dev?");
            }
            Thread.sleep(RETRY_MILLIS);
        }
    }
}

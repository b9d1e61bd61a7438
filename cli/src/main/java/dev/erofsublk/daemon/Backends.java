// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.nbd.NbdInfo;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.UblkUnavailableException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;

/** Which of the drivers this machine has. */
public final class Backends {
    private Backends() {}

    /**
     * The ublk driver, to be closed by the caller; nothing where there is only the other one.
     *
     * @throws UblkUnavailableException if there is none, or this user may not use it
     */
    public static Optional<ControlDevice> ublk() throws IOException {
        try {
            return Optional.of(ControlDevice.open());
        } catch (UblkUnavailableException e) {
            if (NbdInfo.isDriverThere() && !Files.exists(Path.of("/dev/ublk-control"))) {
                return Optional.empty();
            }
            throw e;
        }
    }

    /** What to tell somebody who wanted ublk. */
    public static DaemonException instead(UblkUnavailableException e) {
        return new DaemonException(
                e.getMessage() + "; or serve the image through the kernel's nbd driver: add --backend nbd");
    }
}

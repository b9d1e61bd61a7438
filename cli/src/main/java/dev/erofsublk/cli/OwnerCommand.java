// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.Backend;
import dev.erofsublk.daemon.DeviceId;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DeviceInfo;
import dev.erofsublk.ublk.Feature;
import java.io.IOException;

/** For udev, which makes the nodes of an unprivileged device its user's: only the kernel knows who that is. */
final class OwnerCommand extends Command {
    private final Option<DeviceId> id =
            required("-n, --number", new DeviceIdConverter(), "DEVICE", DeviceIdConverter.DESCRIPTION);

    OwnerCommand() {
        super(
                "owner",
                "Print the user id and group id of the plain user who added a device (--unprivileged); fail for"
                        + " any other device. For the udev rule of packaging/.");
    }

    @Override
    public Integer call() throws IOException {
        DeviceId device = id.given();
        if (device.backend() != Backend.UBLK) {
            throw new CommandException("device " + device + " is not of ublk");
        }
        try (ControlDevice control = ControlDevice.open()) {
            DeviceInfo info = control.find(device.number())
                    .orElseThrow(() -> new CommandException("there is no device " + device));
            if (!info.has(Feature.UNPRIVILEGED_DEV)) {
                throw new CommandException("device " + device + " was not added with --unprivileged");
            }
            System.out.println(
                    Integer.toUnsignedString(info.ownerUid()) + " " + Integer.toUnsignedString(info.ownerGid()));
        }
        return 0;
    }
}

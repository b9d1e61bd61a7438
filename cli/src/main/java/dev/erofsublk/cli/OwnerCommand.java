// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.Backend;
import dev.erofsublk.daemon.DeviceId;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DeviceInfo;
import dev.erofsublk.ublk.Feature;
import java.io.IOException;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** For udev, which makes the nodes of an unprivileged device its user's: only the kernel knows who that is. */
@Command(
        name = "owner",
        mixinStandardHelpOptions = true,
        description = "Print the user id and group id of the plain user who added a device (--unprivileged); fail for"
                + " any other device. For the udev rule of packaging/.")
final class OwnerCommand implements Callable<Integer> {
    @Option(
            names = {"-n", "--number"},
            paramLabel = "DEVICE",
            required = true,
            description = DeviceIdConverter.DESCRIPTION,
            converter = DeviceIdConverter.class)
    private @Nullable DeviceId id;

    @Override
    public Integer call() throws IOException {
        if (id == null || id.backend() != Backend.UBLK) {
            throw new CommandException("device " + id + " is not of ublk");
        }
        try (ControlDevice control = ControlDevice.open()) {
            DeviceInfo info =
                    control.find(id.number()).orElseThrow(() -> new CommandException("there is no device " + id));
            if (!info.has(Feature.UNPRIVILEGED_DEV)) {
                throw new CommandException("device " + id + " was not added with --unprivileged");
            }
            System.out.println(
                    Integer.toUnsignedString(info.ownerUid()) + " " + Integer.toUnsignedString(info.ownerGid()));
        }
        return 0;
    }
}

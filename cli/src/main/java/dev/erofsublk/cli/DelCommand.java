// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.Backend;
import dev.erofsublk.daemon.Backends;
import dev.erofsublk.daemon.Deletion;
import dev.erofsublk.daemon.DeviceId;
import dev.erofsublk.daemon.NbdIdentity;
import dev.erofsublk.daemon.Purge;
import dev.erofsublk.daemon.StateDirectory;
import dev.erofsublk.nbd.NbdInfo;
import dev.erofsublk.ublk.ControlDevice;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** Stops and deletes devices. */
final class DelCommand extends Command {
    private final Option<Boolean> force =
            flag("--force", "Also while somebody has it open or mounted: readers get errors.");

    private final Option<Boolean> async = flag("--async", "Do not wait until it is gone.");

    private final Option<DeviceId> id =
            option("-n, --number", new DeviceIdConverter(), "DEVICE", DeviceIdConverter.DESCRIPTION);

    private final Option<Boolean> all = flag(
            "-a, --all", "All ublk devices of this machine, and those of the nbd driver that erofs-ublk has made.");

    DelCommand() {
        super("del", "Stop and delete devices.");
        oneOf(id, all);
    }

    @Override
    public Integer call() throws IOException {
        List<DeviceId> ids = id.isGiven() ? List.of(id.given()) : all();
        Deletion deletion = new Deletion(force.isGiven(), async.isGiven());
        List<String> failures = new ArrayList<>();
        for (DeviceId each : ids) {
            try {
                deletion.delete(each);
            } catch (IOException e) {
                failures.add(String.valueOf(e.getMessage()));
            }
        }
        Purge.forgetGone(StateDirectory.ofUser());
        if (!failures.isEmpty()) {
            throw new CommandException(String.join("; ", failures));
        }
        return 0;
    }

    private static List<DeviceId> all() throws IOException {
        List<DeviceId> ids = new ArrayList<>();
        Optional<ControlDevice> ublk = Backends.ublk();
        if (ublk.isPresent()) {
            ublk.get().close();
            ControlDevice.ids().forEach(id -> ids.add(new DeviceId(Backend.UBLK, id)));
        }
        for (NbdInfo device : NbdInfo.all()) {
            if (NbdIdentity.of(device).isPresent()) {
                ids.add(new DeviceId(Backend.NBD, device.index()));
            }
        }
        return ids;
    }
}

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
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** Stops and deletes devices. */
@Command(name = "del", mixinStandardHelpOptions = true, description = "Stop and delete devices.")
final class DelCommand implements Callable<Integer> {
    @ArgGroup(multiplicity = "1")
    private @Nullable Which which;

    @Option(names = "--force", description = "Also while somebody has it open or mounted: readers get errors.")
    private boolean force;

    @Option(names = "--async", description = "Do not wait until it is gone.")
    private boolean async;

    /** One device or all. */
    static final class Which {
        @Option(
                names = {"-n", "--number"},
                paramLabel = "DEVICE",
                description = DeviceIdConverter.DESCRIPTION,
                converter = DeviceIdConverter.class)
        @Nullable
        DeviceId id;

        @Option(
                names = {"-a", "--all"},
                description = "All ublk devices of this machine, and those of the nbd driver that erofs-ublk has made.")
        boolean all;
    }

    @Override
    public Integer call() throws IOException {
        if (which == null) {
            throw new IllegalStateException("not run by picocli");
        }
        List<DeviceId> ids = which.id != null ? List.of(which.id) : all();
        Deletion deletion = new Deletion(force, async);
        List<String> failures = new ArrayList<>();
        for (DeviceId id : ids) {
            try {
                deletion.delete(id);
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

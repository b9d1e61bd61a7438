// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.Backend;
import dev.erofsublk.daemon.Deletion;
import dev.erofsublk.daemon.DeviceId;
import dev.erofsublk.daemon.Purge;
import dev.erofsublk.daemon.StateDirectory;
import dev.erofsublk.ublk.ControlDevice;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
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
                paramLabel = "ID",
                description = "The N of /dev/ublkbN.")
        @Nullable
        Integer id;

        @Option(
                names = {"-a", "--all"},
                description = "All ublk devices of this machine.")
        boolean all;
    }

    @Override
    public Integer call() throws IOException {
        if (which == null) {
            throw new IllegalStateException("not run by picocli");
        }
        List<Integer> ids = which.id != null ? List.of(which.id) : ControlDevice.ids();
        Deletion deletion = new Deletion(force, async);
        List<String> failures = new ArrayList<>();
        for (int id : ids) {
            try {
                deletion.delete(new DeviceId(Backend.UBLK, id));
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
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DeviceInfo;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** Stops and deletes devices. */
@Command(name = "del", mixinStandardHelpOptions = true, description = "Stop and delete devices.")
final class DelCommand implements Callable<Integer> {
    private static final int TRIES = 1000;
    private static final long RETRY_MILLIS = 10;

    @ArgGroup(multiplicity = "1")
    private @Nullable Which which;

    @Option(names = "--force", description = "Also while it is mounted: readers get errors.")
    private boolean force;

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
    public Integer call() throws IOException, InterruptedException {
        if (which == null) {
            throw new IllegalStateException("not run by picocli");
        }
        List<String> failures = new ArrayList<>();
        try (ControlDevice control = ControlDevice.open()) {
            List<Integer> ids = which.id != null ? List.of(which.id) : ControlDevice.ids();
            for (int id : ids) {
                try {
                    delete(control, id);
                } catch (IOException e) {
                    failures.add(String.valueOf(e.getMessage()));
                }
            }
        }
        if (!failures.isEmpty()) {
            throw new CommandException(String.join("; ", failures));
        }
        return 0;
    }

    private void delete(ControlDevice control, int id) throws IOException, InterruptedException {
        Optional<DeviceInfo> found = control.find(id);
        if (found.isEmpty()) {
            throw new CommandException("there is no ublk device " + id);
        }
        DeviceInfo device = found.get();
        Optional<String> mountPoint = MountTable.mountPoint(device.blockPath());
        if (mountPoint.isPresent() && !force) {
            throw new CommandException("%s is mounted on %s: unmount it first, or use --force"
                    .formatted(device.blockPath(), mountPoint.get()));
        }
        control.stop(id);
        // Asynchronously, so that a process which keeps the device open cannot keep this one waiting for ever.
        control.deleteSoon(id);
        await(() ->
                !Files.exists(Path.of(device.charPath())) && !Files.exists(Path.of("/sys/class/ublk-char/ublkc" + id)));
        if (device.pid() > 0) {
            // The server ends with its device; once it is gone, so are its mappings.
            await(() -> !Files.exists(Path.of("/proc", Integer.toString(device.pid()))));
        }
    }

    private static void await(BooleanSupplier condition) throws InterruptedException {
        for (int tries = 0; tries < TRIES && !condition.getAsBoolean(); tries++) {
            Thread.sleep(RETRY_MILLIS);
        }
    }
}

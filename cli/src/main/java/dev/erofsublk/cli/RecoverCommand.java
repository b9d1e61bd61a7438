// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.DeviceId;
import dev.erofsublk.daemon.JsonObject;
import java.io.IOException;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** Takes over devices whose server is gone, by hand. */
@Command(
        name = "recover",
        mixinStandardHelpOptions = true,
        description = "Serve devices again whose server has died.",
        footer = "Prints their paths. The daemon that serves them is started where none runs.")
final class RecoverCommand implements Callable<Integer> {
    @ArgGroup(multiplicity = "1")
    private @Nullable Which which;

    @Mixin
    private LogOptions log = new LogOptions();

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
                description = "All devices that erofs-ublk has served.")
        boolean all;
    }

    @Override
    public Integer call() throws IOException, InterruptedException {
        if (which == null) {
            throw new IllegalStateException("not run by picocli");
        }
        log.apply();
        JsonObject request = new JsonObject().put("command", "recover");
        if (which.id != null) {
            request.put("backend", which.id.backend().toString()).put("id", which.id.number());
        }
        DaemonLauncher.ask(request, answer -> {
            answer.strings("devices").forEach(System.out::println);
            System.out.flush();
        });
        return 0;
    }
}

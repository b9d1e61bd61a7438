// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.DaemonProcess;
import dev.erofsublk.daemon.StateDirectory;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** The daemon, in the foreground, as a service manager wants it. */
@Command(
        name = "serve",
        mixinStandardHelpOptions = true,
        description = "Be the daemon: serve devices for other commands, and take over those whose daemon has died.")
final class ServeCommand implements Callable<Integer> {
    @ArgGroup
    private @Nullable Way way;

    @Option(
            names = "--allow",
            paramLabel = "DIR",
            description = "Open only files under DIR, wherever symbolic links lead; may be repeated. Default: any.")
    private List<Path> allowed = new ArrayList<>();

    @Option(
            names = "--delete-on-exit",
            description = "Delete all devices on SIGTERM. Default: they wait, with their readers, for the next daemon.")
    private boolean deleteOnExit;

    @Option(
            names = "--metrics",
            paramLabel = "ADDR",
            description = "Answer Prometheus at http://ADDR/metrics. ADDR is HOST:PORT, or PORT for 127.0.0.1 only."
                    + " Default: nowhere.")
    private @Nullable String metrics;

    @Spec
    private @Nullable CommandSpec spec;

    @Mixin
    private LogOptions log = new LogOptions();

    /** What to do if there is a daemon already. */
    static final class Way {
        @Option(
                names = "--standby",
                description = "Get everything ready, and serve when the daemon dies, or at once if there is none.")
        boolean standby;

        @Option(names = "--takeover", description = "Take all devices over from the running daemon, which ends.")
        boolean takeover;
    }

    @Override
    public Integer call() throws IOException, InterruptedException {
        DaemonProcess.Options options = new DaemonProcess.Options(allowed, deleteOnExit, false, metricsAddress());
        log.apply();
        StateDirectory state = StateDirectory.ofUser();
        state.create();
        DaemonProcess process = new DaemonProcess(state, options);
        if (way != null && way.standby) {
            process.standBy(ready -> {});
        } else if (way != null && way.takeover) {
            process.takeOver(ready -> {});
        } else {
            StateDirectory.Lock lock = state.tryLock()
                    .orElseThrow(() -> new CommandException("a daemon runs already: use --standby to wait for its end,"
                            + " or --takeover to replace it"));
            process.serve(lock, ready -> {});
        }
        return 0;
    }

    private @Nullable InetSocketAddress metricsAddress() {
        if (metrics == null) {
            return null;
        }
        int colon = metrics.lastIndexOf(':');
        String host = colon < 0 ? "127.0.0.1" : metrics.substring(0, colon);
        InetSocketAddress address = host.isEmpty() ? null : address(host, metrics.substring(colon + 1));
        if (address == null) {
            throw new ParameterException(
                    Objects.requireNonNull(spec).commandLine(),
                    "--metrics is '" + metrics + "', expected HOST:PORT or PORT, with a PORT from 1 to 65535");
        }
        return address;
    }

    private static @Nullable InetSocketAddress address(String host, String port) {
        if (!port.matches("[0-9]{1,5}") || Integer.parseInt(port) < 1 || Integer.parseInt(port) > 0xffff) {
            return null;
        }
        InetSocketAddress address = new InetSocketAddress(host, Integer.parseInt(port));
        return address.isUnresolved() ? null : address;
    }
}

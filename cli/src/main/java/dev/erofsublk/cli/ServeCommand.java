// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.DaemonProcess;
import dev.erofsublk.daemon.StateDirectory;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

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
        log.apply();
        StateDirectory state = StateDirectory.ofUser();
        state.create();
        DaemonProcess process = new DaemonProcess(state, new DaemonProcess.Options(allowed, deleteOnExit, false));
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
}

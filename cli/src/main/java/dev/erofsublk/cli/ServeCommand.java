// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.DaemonProcess;
import dev.erofsublk.daemon.StateDirectory;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** The daemon, in the foreground, as a service manager wants it. */
final class ServeCommand extends Command {
    private final Option<List<Path>> allowed = list(
            "--allow",
            Path.class,
            "DIR",
            "Open only files under DIR, wherever symbolic links lead; may be repeated. Default: any.");

    private final Option<Boolean> deleteOnExit = flag(
            "--delete-on-exit",
            "Delete all devices on SIGTERM. Default: they wait, with their readers, for the next daemon.");

    private final Option<String> metrics = option(
            "--metrics",
            String.class,
            "ADDR",
            "Answer Prometheus at http://ADDR/metrics. ADDR is HOST:PORT, or PORT for 127.0.0.1 only."
                    + " Default: nowhere.");

    private final LogOptions log = new LogOptions(this);

    private final Option<Boolean> standby =
            flag("--standby", "Get everything ready, and serve when the daemon dies, or at once if there is none.");

    private final Option<Boolean> takeover =
            flag("--takeover", "Take all devices over from the running daemon, which ends.");

    ServeCommand() {
        super("serve", "Be the daemon: serve devices for other commands, and take over those whose daemon has died.");
        atMostOneOf(standby, takeover);
    }

    @Override
    public Integer call() throws IOException, InterruptedException {
        DaemonProcess.Options options =
                new DaemonProcess.Options(allowed.or(List.of()), deleteOnExit.isGiven(), false, metricsAddress());
        log.apply();
        StateDirectory state = StateDirectory.ofUser();
        state.create();
        DaemonProcess process = new DaemonProcess(state, options);
        if (standby.isGiven()) {
            process.standBy(ready -> {});
        } else if (takeover.isGiven()) {
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
        String text = metrics.value();
        if (text == null) {
            return null;
        }
        int colon = text.lastIndexOf(':');
        String host = colon < 0 ? "127.0.0.1" : text.substring(0, colon);
        InetSocketAddress address = host.isEmpty() ? null : address(host, text.substring(colon + 1));
        refuse(address == null, "--metrics is '" + text + "', expected HOST:PORT or PORT, with a PORT from 1 to 65535");
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

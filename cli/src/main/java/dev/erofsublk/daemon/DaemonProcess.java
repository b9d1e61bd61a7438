// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.uring.Linux;
import java.io.EOFException;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * A whole life of a daemon's process: get the lock, take over what is there, listen, serve, end.
 *
 * <p>There are three ways to the lock: to find it free, to wait for the death of whoever has it (a stand-by), and to ask
 * for it (a take-over, which is how a new version replaces an old one).
 */
public final class DaemonProcess {
    private static final long REFRESH_MILLIS = 200;
    private static final long YIELD_MILLIS = 50;

    private final StateDirectory state;
    private final Options options;
    private final AllowedPaths allowed;

    /**
     * How a daemon is to be.
     *
     * @param allowed directories that images may come from; none for no limit
     * @param deleteOnExit whether a signal deletes its devices; else they wait for the next daemon
     * @param endsWithLastDevice whether it ends when its last device is deleted
     * @param metrics where to answer Prometheus; null for nowhere
     */
    public record Options(
            List<Path> allowed,
            boolean deleteOnExit,
            boolean endsWithLastDevice,
            @Nullable InetSocketAddress metrics) {}

    /** What a daemon is asked to do. */
    @FunctionalInterface
    public interface Requests {
        /** Does what {@code request} says (docs/control-protocol.md). */
        JsonObject perform(JsonObject request) throws IOException;
    }

    /** What to do once the daemon serves, for example to add the first device. */
    @FunctionalInterface
    public interface Start {
        /**
         * Called once; requests through the socket are answered by then.
         *
         * @param daemon for requests of this process, which need not go through the socket
         */
        void ready(Requests daemon) throws IOException;
    }

    public DaemonProcess(StateDirectory state, Options options) throws IOException {
        this.state = state;
        this.options = options;
        allowed = AllowedPaths.of(options.allowed);
    }

    /** Serves at once. */
    public void serve(StateDirectory.Lock lock, Start start) throws IOException, InterruptedException {
        run(lock, new PreparedImages(state, allowed), start);
    }

    /** Gets everything ready and serves when the daemon that does so now has died. */
    public void standBy(Start start) throws IOException, InterruptedException {
        PreparedImages prepared = new PreparedImages(state, allowed);
        rehearse();
        Thread refresher = Thread.ofPlatform().name("prepare").daemon().start(() -> keepPrepared(prepared));
        ServiceManager.ready("stand-by");
        Log.info("stand-by, process %d", Linux.processId());
        StateDirectory.Lock lock = state.lock();
        while (state.isTakeoverOfAnother()) {
            lock.close();
            Thread.sleep(YIELD_MILLIS);
            lock = state.lock();
        }
        refresher.interrupt();
        run(lock, prepared, start);
    }

    /** Gets everything ready, asks the daemon that serves now to hand over, and serves. */
    public void takeOver(Start start) throws IOException, InterruptedException {
        PreparedImages prepared = new PreparedImages(state, allowed);
        rehearse();
        prepared.refresh();
        state.announceTakeover();
        try {
            ControlClient active = ControlClient.connect(state)
                    .orElseThrow(() -> new DaemonException("there is no daemon to take over from"));
            try (active) {
                active.call(new JsonObject().put("command", "hand-over"));
            } catch (EOFException e) {
                Log.warn("%s: its devices are taken over as after a crash", e.getMessage());
            }
            StateDirectory.Lock lock = state.lock();
            state.endTakeover();
            run(lock, prepared, start);
        } finally {
            state.endTakeover();
        }
    }

    /** Loads and links what the take-over will need, all but the device. */
    private static void rehearse() throws IOException {
        Optional<ControlDevice> ublk = Backends.ublk();
        if (ublk.isPresent()) {
            try (ControlDevice control = ublk.get()) {
                control.find(Integer.MAX_VALUE);
            }
        }
    }

    private static void keepPrepared(PreparedImages prepared) {
        try {
            while (true) {
                prepared.refresh();
                Thread.sleep(REFRESH_MILLIS);
            }
        } catch (IOException e) {
            Log.error("stand-by: %s", e.getMessage());
        } catch (InterruptedException e) {
            // there is the lock: time to serve
        }
    }

    private void run(StateDirectory.Lock lock, PreparedImages prepared, Start start)
            throws IOException, InterruptedException {
        Daemon daemon = new Daemon(state, allowed, options.endsWithLastDevice);
        daemon.recoverAll(prepared);
        ControlProtocol protocol =
                new ControlProtocol(daemon, () -> Runtime.getRuntime().halt(0), () -> System.exit(0));
        BlobMonitor.start(daemon);
        if (options.metrics != null) {
            MetricsServer.start(options.metrics, () -> Metrics.of(daemon));
        }
        try (ControlServer server = ControlServer.open(state.socket(), protocol::answer)) {
            Thread hook = new Thread(() -> end(daemon, server), "shutdown");
            Runtime.getRuntime().addShutdownHook(hook);
            start.ready(protocol::perform);
            ServiceManager.ready("serving");
            daemon.awaitEnd();
            Runtime.getRuntime().removeShutdownHook(hook);
        } finally {
            lock.close();
        }
    }

    /** What a signal does. */
    private void end(Daemon daemon, ControlServer server) {
        ServiceManager.stopping();
        try {
            server.close();
        } catch (IOException e) {
            Log.warn("%s", e.getMessage());
        }
        if (options.deleteOnExit) {
            daemon.deleteAll();
        } else {
            daemon.handOverAll();
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Sockets;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * Serves exports, read-only, to any NBD client: over unix sockets, TCP, or a pair of descriptors.
 *
 * {@snippet lang="java" :
 * try (NbdServer server = new NbdServer(new Exports(List.of(export)), Limits.DEFAULT, null, System.err::println)) {
 *     server.listen(Path.of("/run/image.sock"));
 *     ...
 * }
 * }
 *
 * <p>A platform thread serves each connection with blocking system calls. Thread-safe.
 */
public final class NbdServer implements AutoCloseable {
    private static final int BACKLOG = 64;
    private static final String LATE = "the handshake took too long";

    private final Exports exports;
    private final Limits limits;
    private final @Nullable Tls tls;
    private final Consumer<String> log;
    private final ScheduledThreadPoolExecutor deadlines;

    // Guarded by this
    private final List<Listener> listeners = new ArrayList<>();
    private final Set<Connection> connections = new HashSet<>();
    private final Set<Thread> threads = new HashSet<>();
    private boolean closed;
    private int accepted;

    private record Listener(int fd, Thread thread, @Nullable Path path) {}

    /**
     * @param exports what is served; their address spaces must stay open until {@link #close} has returned
     * @param tls certificates, or null for connections in the clear only
     * @param log takes a line for each connection that ended in a way an administrator should know of; called by any
     *     thread
     */
    public NbdServer(Exports exports, Limits limits, @Nullable Tls tls, Consumer<String> log) {
        this.exports = exports;
        this.limits = limits;
        this.tls = tls;
        this.log = log;
        deadlines = deadlines();
    }

    private static ScheduledThreadPoolExecutor deadlines() {
        ScheduledThreadPoolExecutor deadlines =
                new ScheduledThreadPoolExecutor(1, task -> daemon(task, "nbd-deadlines"));
        deadlines.setRemoveOnCancelPolicy(true);
        return deadlines;
    }

    private static Thread daemon(Runnable task, String name) {
        return Thread.ofPlatform().daemon().name(name).unstarted(task);
    }

    /**
     * Listens on a unix socket. One that a server left behind when it died is replaced.
     *
     * @throws LinuxException with EADDRINUSE if a server listens there, or the file is something else
     */
    public void listen(Path path) throws IOException {
        removeStale(path);
        start(Sockets.listen(path, BACKLOG), "unix", path);
    }

    /**
     * Listens on TCP.
     *
     * @param address port 0 for any
     * @return the address with the port that it got
     */
    public InetSocketAddress listen(InetSocketAddress address) throws IOException {
        int fd = Sockets.listen(address, BACKLOG);
        InetSocketAddress bound = Sockets.localAddress(fd);
        start(fd, "tcp", null);
        return bound;
    }

    /**
     * Serves the one client behind a pair of descriptors, as inetd and fuzzers want it, on the calling thread, until the
     * client leaves; then closes them.
     *
     * @param in a stream socket or a pipe to read from
     * @param out the same socket, or a pipe to write to
     * @param late called, by another thread, when the handshake has taken too long: a socket is hung up by then, but
     *     nothing ends a wait for a pipe except the end of the process
     */
    public static void serve(
            int in, int out, Exports exports, Limits limits, @Nullable Tls tls, Consumer<String> log, Runnable late) {
        Connection connection = new Connection(in, out, "the client", log);
        try (ScheduledThreadPoolExecutor deadlines = deadlines()) {
            ScheduledFuture<?> deadline = deadlines.schedule(
                    () -> {
                        connection.stop(LATE);
                        late.run();
                    },
                    limits.handshake().toNanos(),
                    TimeUnit.NANOSECONDS);
            connection.serve(exports, limits, tls, () -> deadline.cancel(false));
            deadline.cancel(false);
        }
    }

    private static void removeStale(Path path) throws IOException {
        try {
            Linux.close(Sockets.connect(path));
        } catch (LinuxException e) {
            if (e.errno() == Errno.ECONNREFUSED && !Files.isRegularFile(path)) {
                Files.deleteIfExists(path);
            }
        }
    }

    private synchronized void start(int fd, String kind, @Nullable Path path) {
        if (closed) {
            Linux.close(fd);
            throw new IllegalStateException("the server is closed");
        }
        Thread thread = daemon(() -> accept(fd, kind), "nbd-" + kind);
        listeners.add(new Listener(fd, thread, path));
        thread.start();
    }

    private void accept(int listener, String kind) {
        for (; ; ) {
            int fd = Sockets.accept(listener);
            if (fd >= 0) {
                welcome(fd, kind);
            } else if (fd == -Errno.EINVAL || fd == -Errno.EBADF) {
                return; // closed
            } else if (fd == -Errno.EMFILE || fd == -Errno.ENFILE || fd == -Errno.ENOMEM || fd == -Errno.ENOBUFS) {
                log.accept("nbd: cannot accept: " + Errno.message(-fd));
                if (!pause()) {
                    return;
                }
            } // else the client was gone before it was accepted
        }
    }

    private static boolean pause() {
        try {
            Thread.sleep(100); // descriptors come back when clients leave
            return true;
        } catch (InterruptedException e) {
            return false;
        }
    }

    private synchronized void welcome(int fd, String kind) {
        if (closed || connections.size() >= limits.connections()) {
            if (!closed) {
                log.accept("nbd: a client turned away: there are " + limits.connections() + " already");
            }
            Linux.close(fd);
            return;
        }
        String name = "nbd-" + kind + "-" + ++accepted;
        Connection connection = new Connection(fd, fd, name, log);
        connections.add(connection);
        ScheduledFuture<?> deadline = deadlines.schedule(
                () -> connection.stop(LATE), limits.handshake().toNanos(), TimeUnit.NANOSECONDS);
        Thread thread = daemon(() -> serve(connection, deadline), name);
        threads.add(thread);
        thread.start();
    }

    private void serve(Connection connection, ScheduledFuture<?> deadline) {
        try {
            connection.serve(exports, limits, tls, () -> deadline.cancel(false));
        } finally {
            deadline.cancel(false);
            synchronized (this) {
                connections.remove(connection);
                threads.remove(Thread.currentThread());
            }
        }
    }

    /** How many clients there are. */
    public synchronized int connectionCount() {
        return connections.size();
    }

    /** Stops listening, hangs up on every client and waits until the last thread has left the exports. */
    @Override
    public void close() {
        List<Listener> stopped;
        List<Thread> serving;
        synchronized (this) {
            closed = true;
            stopped = List.copyOf(listeners);
            listeners.clear();
            stopped.forEach(listener -> Sockets.shutdown(listener.fd));
            connections.forEach(Connection::stop);
            serving = List.copyOf(threads);
        }
        deadlines.shutdownNow();
        for (Listener listener : stopped) {
            join(listener.thread);
            Linux.close(listener.fd);
            if (listener.path != null) {
                listener.path.toFile().delete();
            }
        }
        serving.forEach(NbdServer::join);
    }

    private static void join(Thread thread) {
        boolean interrupted = false;
        for (; ; ) {
            try {
                thread.join();
                break;
            } catch (InterruptedException e) {
                interrupted = true; // the mapping must not go before the thread
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.Sockets;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * Listens on the control socket: one request a line, one answer a line (docs/control-protocol.md).
 *
 * <p>Only the user of this process and root are answered. The socket's mode keeps others out already, as does that of
 * its directory; the peer's credentials do so for whoever got hold of a descriptor.
 */
final class ControlServer implements AutoCloseable {
    private static final int MAX_CONNECTIONS = 64;
    /** How long a peer waits for another to leave before it is told that there are too many. */
    private static final long ADMISSION_MILLIS = 1000;

    private static final long EXHAUSTED_PAUSE_MILLIS = 100;
    private static final long STACK_BYTES = 512 << 10;

    /**
     * What a handler makes of a request.
     *
     * @param afterwards done once {@code line} has left, or could not
     */
    record Answer(String line, Runnable afterwards) {
        static Answer of(String line) {
            return new Answer(line, () -> {});
        }
    }

    private final Path path;
    private final int listener;
    private final int owner = Linux.effectiveUserId();
    private final Function<String, Answer> handler;
    private final Semaphore connections = new Semaphore(MAX_CONNECTIONS);
    private volatile boolean closed;

    private ControlServer(Path path, int listener, Function<String, Answer> handler) {
        this.path = path;
        this.listener = listener;
        this.handler = handler;
    }

    /**
     * Begins to listen.
     *
     * @param handler turns a request into its answer, both of one line; called by many threads
     */
    static ControlServer open(Path path, Function<String, Answer> handler) throws IOException {
        Files.deleteIfExists(path); // of a daemon that is dead: we have its lock
        int listener = Sockets.listen(path, MAX_CONNECTIONS);
        try {
            Files.setPosixFilePermissions(path, PosixFilePermissions.fromString("rw-------"));
            ControlServer server = new ControlServer(path, listener, handler);
            Thread.ofPlatform().name("control").daemon().stackSize(STACK_BYTES).start(server::acceptAll);
            return server;
        } catch (IOException | RuntimeException e) {
            Linux.close(listener);
            throw e;
        }
    }

    private void acceptAll() {
        while (true) {
            int peer = Sockets.accept(listener);
            if (closed) {
                Linux.close(peer);
                Linux.close(listener);
                return;
            }
            if (peer >= 0) {
                admit(peer);
            } else if (!isOfOnePeer(-peer)) {
                // No descriptors left: devices do not need any, and somebody may close some.
                Log.error("control: cannot accept: %s", Errno.message(-peer));
                pause();
            }
        }
    }

    /** Whether an error of accept(2) says something of one peer only, and the next may be well. */
    private static boolean isOfOnePeer(int errno) {
        return errno == Errno.EINTR || errno == Errno.ECONNABORTED;
    }

    private void admit(int fd) {
        if (!isAdmitted()) {
            try (Peer peer = new Peer(fd)) {
                peer.send(failure(MAX_CONNECTIONS + " connections are open already, the most there may be").line);
            } catch (IOException e) {
                Log.debug("control: a peer left: %s", e.getMessage());
            }
            return;
        }
        Thread.ofPlatform().name("control-peer").daemon().stackSize(STACK_BYTES).start(() -> {
            try (Peer peer = new Peer(fd)) {
                converse(peer);
            } catch (IOException e) {
                Log.debug("control: a peer left: %s", e.getMessage());
            } finally {
                connections.release();
            }
        });
    }

    private boolean isAdmitted() {
        try {
            return connections.tryAcquire(ADMISSION_MILLIS, TimeUnit.MILLISECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return false;
        }
    }

    private static void pause() {
        try {
            Thread.sleep(EXHAUSTED_PAUSE_MILLIS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void converse(Peer peer) throws IOException {
        int user = peer.user();
        if (user != owner && user != 0) {
            Log.warn("control: refused user id %d", user);
            peer.send(failure("user id " + user + " may not control this daemon").line);
            return;
        }
        LineReader lines = new LineReader(peer);
        while (true) {
            String line;
            try {
                line = lines.next();
            } catch (DaemonException e) {
                peer.send(failure(String.valueOf(e.getMessage())).line);
                return; // where the next request begins is not known
            }
            if (line == null) {
                return;
            }
            Answer answer = handler.apply(line);
            try {
                peer.send(answer.line);
            } finally {
                answer.afterwards.run();
            }
        }
    }

    static Answer failure(String message) {
        return Answer.of(new JsonObject().put("ok", false).put("error", message).toString());
    }

    @Override
    public void close() throws IOException {
        Files.deleteIfExists(path);
        closed = true;
        Sockets.shutdown(listener);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import java.io.IOException;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.nio.file.attribute.UserPrincipal;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import jdk.net.ExtendedSocketOptions;

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
    private final ServerSocketChannel server;
    private final UserPrincipal owner;
    private final Function<String, Answer> handler;
    private final Semaphore connections = new Semaphore(MAX_CONNECTIONS);

    private ControlServer(Path path, ServerSocketChannel server, Function<String, Answer> handler) throws IOException {
        this.path = path;
        this.server = server;
        this.handler = handler;
        owner = Files.getOwner(path);
    }

    /**
     * Begins to listen.
     *
     * @param handler turns a request into its answer, both of one line; called by many threads
     */
    static ControlServer open(Path path, Function<String, Answer> handler) throws IOException {
        Files.deleteIfExists(path); // of a daemon that is dead: we have its lock
        ServerSocketChannel channel = ServerSocketChannel.open(StandardProtocolFamily.UNIX);
        try {
            channel.bind(UnixDomainSocketAddress.of(path));
            Files.setPosixFilePermissions(path, PosixFilePermissions.fromString("rw-------"));
            ControlServer server = new ControlServer(path, channel, handler);
            Thread.ofPlatform().name("control").daemon().stackSize(STACK_BYTES).start(server::acceptAll);
            return server;
        } catch (IOException | RuntimeException e) {
            channel.close();
            throw e;
        }
    }

    private void acceptAll() {
        while (server.isOpen()) {
            try {
                admit(server.accept());
            } catch (ClosedChannelException e) {
                return;
            } catch (IOException e) {
                // No descriptors left: devices do not need any, and somebody may close some.
                Log.error("control: cannot accept: %s", e.getMessage());
                pause();
            }
        }
    }

    private void admit(SocketChannel peer) throws IOException {
        if (!isAdmitted()) {
            try (peer) {
                answer(peer, failure(MAX_CONNECTIONS + " connections are open already, the most there may be").line);
            }
            return;
        }
        Thread.ofPlatform().name("control-peer").daemon().stackSize(STACK_BYTES).start(() -> {
            try (peer) {
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

    private void converse(SocketChannel peer) throws IOException {
        UserPrincipal user = peer.getOption(ExtendedSocketOptions.SO_PEERCRED).user();
        if (!user.equals(owner) && !user.getName().equals("root")) {
            Log.warn("control: refused user %s", user.getName());
            answer(peer, failure("user " + user.getName() + " may not control this daemon").line);
            return;
        }
        LineReader lines = new LineReader(Channels.newInputStream(peer));
        while (true) {
            String line;
            try {
                line = lines.next();
            } catch (DaemonException e) {
                answer(peer, failure(String.valueOf(e.getMessage())).line);
                return; // where the next request begins is not known
            }
            if (line == null) {
                return;
            }
            Answer answer = handler.apply(line);
            try {
                answer(peer, answer.line);
            } finally {
                answer.afterwards.run();
            }
        }
    }

    static Answer failure(String message) {
        return Answer.of(new JsonObject().put("ok", false).put("error", message).toString());
    }

    private static void answer(SocketChannel peer, String line) throws IOException {
        ByteBuffer bytes = ByteBuffer.wrap((line + "\n").getBytes(StandardCharsets.UTF_8));
        while (bytes.hasRemaining()) {
            peer.write(bytes);
        }
    }

    @Override
    public void close() throws IOException {
        Files.deleteIfExists(path);
        server.close();
    }
}

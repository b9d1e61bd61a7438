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
import java.util.function.UnaryOperator;
import jdk.net.ExtendedSocketOptions;

/**
 * Listens on the control socket: one request a line, one answer a line (docs/control-protocol.md).
 *
 * <p>Only the user of this process and root are answered. The socket's mode keeps others out already, as does that of
 * its directory; the peer's credentials do so for whoever got hold of a descriptor.
 */
final class ControlServer implements AutoCloseable {
    private static final int MAX_CONNECTIONS = 64;
    private static final long EXHAUSTED_PAUSE_MILLIS = 100;
    private static final long STACK_BYTES = 512 << 10;

    private final Path path;
    private final ServerSocketChannel server;
    private final UserPrincipal owner;
    private final UnaryOperator<String> handler;
    private final Semaphore connections = new Semaphore(MAX_CONNECTIONS);

    private ControlServer(Path path, ServerSocketChannel server, UnaryOperator<String> handler) throws IOException {
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
    static ControlServer open(Path path, UnaryOperator<String> handler) throws IOException {
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
                connections.acquire();
                SocketChannel peer = server.accept();
                Thread.ofPlatform()
                        .name("control-peer")
                        .daemon()
                        .stackSize(STACK_BYTES)
                        .start(() -> {
                            try (peer) {
                                converse(peer);
                            } catch (IOException e) {
                                Log.debug("control: a peer left: %s", e.getMessage());
                            } finally {
                                connections.release();
                            }
                        });
            } catch (ClosedChannelException | InterruptedException e) {
                return;
            } catch (IOException e) {
                // No descriptors left: devices do not need any, and somebody may close some.
                connections.release();
                Log.error("control: cannot accept: %s", e.getMessage());
                pause();
            }
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
            answer(peer, failure("user " + user.getName() + " may not control this daemon"));
            return;
        }
        LineReader lines = new LineReader(Channels.newInputStream(peer));
        while (true) {
            String line;
            try {
                line = lines.next();
            } catch (DaemonException e) {
                answer(peer, failure(String.valueOf(e.getMessage())));
                return; // where the next request begins is not known
            }
            if (line == null) {
                return;
            }
            answer(peer, handler.apply(line));
        }
    }

    static String failure(String message) {
        return new JsonObject().put("ok", false).put("error", message).toString();
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

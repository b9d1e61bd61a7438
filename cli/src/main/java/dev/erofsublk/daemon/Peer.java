// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Sockets;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;

/**
 * Whoever is at the other end of a unix socket: the bytes that it sends, and where to send some.
 *
 * <p>Not a channel of NIO: the first one of a JVM looks for a provider of random numbers, for names that are never used,
 * which takes a tenth of the time in which the first device can be read. Used by the thread that made it.
 */
final class Peer extends InputStream {
    private static final int CHUNK_BYTES = 4096;

    private final Arena arena = Arena.ofConfined();
    private final MemorySegment chunk = arena.allocate(CHUNK_BYTES);
    private final int fd;
    private boolean closed;

    /** @param fd a connected socket, closed with this */
    Peer(int fd) {
        this.fd = fd;
    }

    /** The number of its user. */
    int user() throws LinuxException {
        return Sockets.peerUser(fd);
    }

    @Override
    public int read() throws LinuxException {
        byte[] one = new byte[1];
        return read(one, 0, 1) < 0 ? -1 : Byte.toUnsignedInt(one[0]);
    }

    @Override
    public int read(byte[] into, int at, int length) throws LinuxException {
        if (length == 0) {
            return 0;
        }
        int n = (int) Linux.checked(Sockets.read(fd, chunk.address(), Math.min(length, CHUNK_BYTES)), "read", "a peer");
        MemorySegment.copy(chunk, JAVA_BYTE, 0, into, at, n);
        return n == 0 ? -1 : n;
    }

    /** Sends a line, all of it, and waits for room if need be. */
    void send(String line) throws LinuxException {
        byte[] bytes = (line + "\n").getBytes(StandardCharsets.UTF_8);
        for (int sent = 0; sent < bytes.length; ) {
            int n = Math.min(bytes.length - sent, CHUNK_BYTES);
            MemorySegment.copy(bytes, sent, chunk, JAVA_BYTE, 0, n);
            sent += (int) Linux.checked(Sockets.send(fd, chunk.asSlice(0, n)), "send", "a peer");
        }
    }

    /** Ends the conversation: whoever waits for a byte of it gets the end. From any thread, and at any time. */
    synchronized void hangUp() {
        if (!closed) { // else the number may be another's by now
            Sockets.shutdown(fd);
        }
    }

    @Override
    public synchronized void close() {
        closed = true;
        Linux.close(fd);
        arena.close();
    }
}

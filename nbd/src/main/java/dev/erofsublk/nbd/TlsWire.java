// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.Sockets;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLEngineResult;
import javax.net.ssl.SSLEngineResult.HandshakeStatus;
import javax.net.ssl.SSLException;

/**
 * TLS over another wire, by an {@link SSLEngine}. All buffers are native; JSSE reads what is sent, which therefore must
 * not lie in a mapping ({@link CopiedReads}).
 */
final class TlsWire implements Wire {
    private static final ByteBuffer NOTHING = ByteBuffer.allocate(0);
    /** Several records of 16 KiB for each system call. */
    private static final int OUTPUT_BYTES = 128 << 10;

    private final Wire plain;
    private final SSLEngine engine;
    private final MemorySegment received;
    private final ByteBuffer encrypted; // over received, ready to be read
    private final ByteBuffer decrypted; // ready to be read
    private final MemorySegment output;
    private final ByteBuffer outgoing; // over output, ready to be filled
    private final int recordBytes;

    TlsWire(Arena arena, Wire plain, SSLEngine engine) {
        this.plain = plain;
        this.engine = engine;
        recordBytes = engine.getSession().getPacketBufferSize();
        received = arena.allocate(2L * recordBytes, 8);
        encrypted = received.asByteBuffer().limit(0);
        decrypted = arena.allocate(engine.getSession().getApplicationBufferSize(), 8)
                .asByteBuffer()
                .limit(0);
        output = arena.allocate(OUTPUT_BYTES, 8);
        outgoing = output.asByteBuffer();
    }

    /** Performs the handshake of TLS. */
    void handshake() throws IOException {
        try {
            engine.beginHandshake();
            while (engine.getHandshakeStatus() != HandshakeStatus.NOT_HANDSHAKING) {
                if (!handshakeStep() && !unwrap()) {
                    throw Disconnect.because("closed within the TLS handshake");
                }
            }
            flush();
        } catch (SSLException e) {
            sendAlert();
            throw Disconnect.because("TLS: " + e.getMessage());
        }
    }

    /** Does what the handshake wants of this side; false if it wants to hear from the other. */
    private boolean handshakeStep() throws IOException {
        return switch (engine.getHandshakeStatus()) {
            case NEED_TASK -> {
                for (Runnable task; (task = engine.getDelegatedTask()) != null; ) {
                    task.run();
                }
                yield true;
            }
            case NEED_WRAP -> {
                wrap(NOTHING);
                flush();
                yield true;
            }
            default -> false;
        };
    }

    private void sendAlert() {
        try {
            engine.closeOutbound();
            wrap(NOTHING);
            flush();
        } catch (IOException e) {
            // the client has gone, and does not need to be told
        }
    }

    @Override
    public int read(MemorySegment target, long at, int length) throws IOException {
        try {
            while (!decrypted.hasRemaining()) {
                if (!handshakeStep() && !unwrap()) {
                    return 0;
                }
            }
        } catch (SSLException e) {
            throw Disconnect.because("TLS: " + e.getMessage());
        }
        int n = Math.min(length, decrypted.remaining());
        MemorySegment.copy(MemorySegment.ofBuffer(decrypted), 0, target, at, n);
        decrypted.position(decrypted.position() + n);
        return n;
    }

    /** Decrypts the next record, if there is one; false at the end of the stream. */
    private boolean unwrap() throws IOException {
        for (; ; ) {
            decrypted.compact();
            SSLEngineResult result;
            try {
                result = engine.unwrap(encrypted, decrypted);
            } finally {
                decrypted.flip();
            }
            switch (result.getStatus()) {
                case OK -> {
                    return true;
                }
                case CLOSED -> {
                    return false;
                }
                case BUFFER_OVERFLOW -> throw Disconnect.because("a TLS record that is too long");
                case BUFFER_UNDERFLOW -> {
                    encrypted.compact();
                    int at = encrypted.position();
                    int n = plain.read(received, at, encrypted.remaining());
                    encrypted.position(at + n).flip();
                    if (n == 0) {
                        return false;
                    }
                }
            }
        }
    }

    @Override
    public void write(MemorySegment bytes) throws IOException {
        wrap(bytes.asByteBuffer());
        flush();
    }

    @Override
    public int send(MemorySegment messages, int count) throws IOException {
        long iovecCount = messages.get(JAVA_LONG, Sockets.MSG_IOVLEN);
        MemorySegment iovecs = Linux.memory(messages.get(JAVA_LONG, Sockets.MSG_IOV), iovecCount * Sockets.IOVEC_BYTES);
        ByteBuffer[] data = new ByteBuffer[(int) iovecCount];
        int total = 0;
        for (int i = 0; i < data.length; i++) {
            long at = (long) i * Sockets.IOVEC_BYTES;
            data[i] = Linux.memory(iovecs.get(JAVA_LONG, at), iovecs.get(JAVA_LONG, at + 8))
                    .asByteBuffer();
            total += data[i].remaining();
        }
        wrap(data);
        flush();
        messages.set(JAVA_INT, Sockets.MSG_LEN, total);
        return 1;
    }

    private void wrap(ByteBuffer... data) throws IOException {
        ByteBuffer last = data[data.length - 1]; // bytes are taken in order; no iovec is empty
        do {
            if (outgoing.remaining() < recordBytes) {
                flush();
            }
            SSLEngineResult result = engine.wrap(data, outgoing);
            if (result.getStatus() != SSLEngineResult.Status.OK && last.hasRemaining()) {
                throw Disconnect.byPeer(); // the client has said goodbye
            }
        } while (last.hasRemaining());
    }

    private void flush() throws IOException {
        plain.write(output.asSlice(0, outgoing.position()));
        outgoing.clear();
    }

    @Override
    public boolean isAtomic() {
        return false;
    }

    @Override
    public void finish() throws IOException {
        engine.closeOutbound();
        wrap(NOTHING);
        flush();
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.Socket;
import java.net.SocketAddress;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/** Speaks NBD byte by byte, right or wrong, as a test wants it. */
@SuppressWarnings("ArrayRecordComponent") // nobody compares these records
final class Client implements AutoCloseable {
    private final SocketChannel channel;
    private DataInputStream in;
    private DataOutputStream out;

    /** An answer to an option; the text of an error is left out. */
    record Reply(int option, int type, byte[] data) {
        boolean isError() {
            return type < 0;
        }
    }

    /** A structured chunk. */
    record Chunk(int flags, int type, long cookie, byte[] data) {
        boolean isDone() {
            return (flags & 1) != 0;
        }

        int u32(int at) {
            return Client.u32(data, at);
        }
    }

    private Client(SocketAddress address) throws IOException {
        channel = SocketChannel.open(address);
        in = new DataInputStream(Channels.newInputStream(channel));
        out = new DataOutputStream(Channels.newOutputStream(channel));
    }

    /** Connects without saying anything. */
    static Client connect(SocketAddress address) throws IOException {
        return new Client(address);
    }

    static Client connect(Path socket) throws IOException {
        return connect(UnixDomainSocketAddress.of(socket));
    }

    /** Connects, and answers the greeting as a modern client does. */
    static Client greeted(Path socket) throws IOException {
        Client client = connect(socket);
        client.greet(3);
        return client;
    }

    void greet(int flags) throws IOException {
        assertThat(in.readLong()).isEqualTo(0x4e42444d41474943L);
        assertThat(in.readLong()).isEqualTo(0x49484156454f5054L);
        assertThat(in.readUnsignedShort()).isEqualTo(3);
        send(u32(flags));
    }

    /** Negotiates structured replies and {@code base:allocation}, and chooses {@code name}. */
    static Client structured(Path socket, String name) throws IOException {
        Client client = greeted(socket);
        client.option(8);
        assertThat(client.reply().type()).isEqualTo(1);
        client.option(10, contexts(name, "base:allocation"));
        assertThat(client.reply().type()).isEqualTo(4);
        assertThat(client.reply().type()).isEqualTo(1);
        client.go(name);
        return client;
    }

    /** Chooses {@code name} with simple replies. */
    static Client simple(Path socket, String name) throws IOException {
        Client client = greeted(socket);
        client.go(name);
        return client;
    }

    void go(String name) throws IOException {
        option(7, cat(string(name), u16(0)));
        assertThat(reply().type()).isEqualTo(3);
        assertThat(reply().type()).isEqualTo(1);
    }

    /** Goes on through other streams, as TLS makes them. */
    void replaceStreams(InputStream in, OutputStream out) {
        this.in = new DataInputStream(in);
        this.out = new DataOutputStream(out);
    }

    /** The socket of a TCP connection, for TLS over it. */
    Socket socket() {
        return channel.socket();
    }

    void send(byte[]... parts) throws IOException {
        out.write(cat(parts));
        out.flush();
    }

    void option(int option, byte[]... data) throws IOException {
        send(optionBytes(option, data));
    }

    static byte[] optionBytes(int option, byte[]... data) {
        byte[] all = cat(data);
        return cat(u64(0x49484156454f5054L), u32(option), u32(all.length), all);
    }

    Reply reply() throws IOException {
        assertThat(in.readLong()).isEqualTo(0x3e889045565a9L);
        int option = in.readInt();
        int type = in.readInt();
        byte[] data = read(in.readInt());
        assertThat(data).hasSizeLessThanOrEqualTo(4 + 2 * 4096);
        return new Reply(option, type, data);
    }

    void request(int flags, int type, long cookie, long offset, int length) throws IOException {
        send(requestBytes(flags, type, cookie, offset, length));
    }

    static byte[] requestBytes(int flags, int type, long cookie, long offset, int length) {
        return cat(u32(0x25609513), u16(flags), u16(type), u64(cookie), u64(offset), u32(length));
    }

    /** Reads a simple reply without data; returns its error. */
    int simpleReply(long cookie) throws IOException {
        assertThat(in.readInt()).isEqualTo(0x67446698);
        int error = in.readInt();
        assertThat(in.readLong()).isEqualTo(cookie);
        return error;
    }

    Chunk chunk() throws IOException {
        assertThat(in.readInt()).isEqualTo(0x668e33ef);
        int flags = in.readUnsignedShort();
        int type = in.readUnsignedShort();
        long cookie = in.readLong();
        return new Chunk(flags, type, cookie, read(in.readInt()));
    }

    /** Reads a range with structured replies and puts it together; null for an error. */
    byte @Nullable [] readStructured(int flags, long offset, int length) throws IOException {
        request(flags, 0, offset + 7, offset, length);
        byte[] content = new byte[length];
        int covered = 0;
        boolean failed = false;
        for (Chunk chunk; ; ) {
            chunk = chunk();
            assertThat(chunk.cookie()).isEqualTo(offset + 7);
            switch (chunk.type()) {
                case 0 -> assertThat(chunk.isDone()).isTrue();
                case 1 -> {
                    int at = (int) (u64(chunk.data(), 0) - offset);
                    System.arraycopy(chunk.data(), 8, content, at, chunk.data().length - 8);
                    covered += chunk.data().length - 8;
                }
                case 2 -> covered += chunk.u32(8);
                case 0x8001 -> {
                    assertThat(chunk.u32(0)).isEqualTo(5);
                    failed = true;
                }
                default -> throw new AssertionError("chunk of type " + chunk.type());
            }
            if (chunk.isDone()) {
                break;
            }
        }
        if (failed) {
            return null;
        }
        assertThat(covered).isEqualTo(length);
        return content;
    }

    /** Reads a range with a simple reply; null for an error. */
    byte @Nullable [] readSimple(long offset, int length) throws IOException {
        request(0, 0, 99, offset, length);
        return simpleReply(99) != 0 ? null : read(length);
    }

    byte[] read(int bytes) throws IOException {
        byte[] data = in.readNBytes(bytes);
        if (data.length < bytes) {
            throw new EOFException();
        }
        return data;
    }

    /** Sends nothing more, and returns all that the server still has to say. */
    byte[] finish() throws IOException {
        channel.shutdownOutput();
        return in.readAllBytes();
    }

    /** Whether the server has hung up; waits for that. */
    boolean isHungUp() throws IOException {
        try {
            return in.read() < 0;
        } catch (IOException e) {
            return true; // reset, because something was still unread
        }
    }

    @Override
    public void close() throws IOException {
        channel.close();
    }

    static byte[] u16(int v) {
        return new byte[] {(byte) (v >> 8), (byte) v};
    }

    static byte[] u32(int v) {
        return new byte[] {(byte) (v >> 24), (byte) (v >> 16), (byte) (v >> 8), (byte) v};
    }

    static byte[] u64(long v) {
        return cat(u32((int) (v >> 32)), u32((int) v));
    }

    static int u32(byte[] b, int at) {
        return (b[at] & 0xff) << 24 | (b[at + 1] & 0xff) << 16 | (b[at + 2] & 0xff) << 8 | (b[at + 3] & 0xff);
    }

    static long u64(byte[] b, int at) {
        return (long) u32(b, at) << 32 | Integer.toUnsignedLong(u32(b, at + 4));
    }

    static byte[] string(String text) {
        byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
        return cat(u32(utf8.length), utf8);
    }

    /** The data of SET_META_CONTEXT and LIST_META_CONTEXT. */
    static byte[] contexts(String export, String... queries) {
        byte[] data = cat(string(export), u32(queries.length));
        for (String query : queries) {
            data = cat(data, string(query));
        }
        return data;
    }

    static byte[] cat(byte[]... parts) {
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            all.writeBytes(part);
        }
        return all.toByteArray();
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(30)
class SocketsTest {
    @TempDir
    Path directory;

    @Test
    void whatIsSentArrivesOnEveryKindOfSocket() throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            Path path = directory.resolve("s");
            int unix = Sockets.listen(path, 1);
            exchange(arena, unix, Sockets.connect(path), Sockets.AF_UNIX);
            for (String host : List.of("127.0.0.1", "::1")) {
                int tcp = Sockets.listen(new InetSocketAddress(InetAddress.getByName(host), 0), 1);
                InetSocketAddress bound = Sockets.localAddress(tcp);
                assertThat(bound.getAddress()).isEqualTo(InetAddress.getByName(host));
                exchange(arena, tcp, Sockets.connect(bound), host.equals("::1") ? Sockets.AF_INET6 : Sockets.AF_INET);
            }
        }
    }

    private static void exchange(Arena arena, int listener, int client, int family) {
        int server = Sockets.accept(listener);
        assertThat(server).isPositive();
        assertThat(Sockets.family(server)).isEqualTo(family);
        assertThat(Sockets.send(client, arena.allocateFrom("hello"))).isEqualTo(6);
        assertThat(read(arena, server)).isEqualTo("hello\0");
        Sockets.shutdownOutput(client);
        assertThat(read(arena, server)).isEmpty();
        for (int fd : new int[] {server, client, listener}) {
            Linux.close(fd);
        }
    }

    private static String read(Arena arena, int fd) {
        MemorySegment buffer = arena.allocate(100);
        int n = Sockets.read(fd, buffer.address(), 100);
        return new String(buffer.asSlice(0, Math.max(0, n)).toArray(JAVA_BYTE), StandardCharsets.US_ASCII);
    }

    @Test
    void aListenerWaitsForNoOneOnceItIsShutDown() throws Exception {
        int listener = Sockets.listen(directory.resolve("s"), 1);
        int[] result = new int[1];
        Thread thread = Thread.ofPlatform().start(() -> result[0] = Sockets.accept(listener));
        Sockets.shutdown(listener);
        thread.join();
        assertThat(result[0]).isEqualTo(-Errno.EINVAL);
        Linux.close(listener);
    }

    @Test
    void aMessageWithABadAddressIsNotSentAndThoseBeforeItAre() throws IOException {
        int[] pair = Sockets.pair();
        long bad = Linux.mmap(0, 4096, Linux.PROT_NONE, Linux.MAP_PRIVATE | Linux.MAP_ANONYMOUS, -1, 0);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment messages = arena.allocate(3L * Sockets.MMSGHDR_BYTES, 8);
            MemorySegment iovecs = arena.allocate(6L * Sockets.IOVEC_BYTES, 8);
            MemorySegment text = arena.allocateFrom("abcdef");
            for (int m = 0; m < 3; m++) {
                message(messages, iovecs, m, text.address() + 2L * m, m == 1 ? bad : text.address() + 2L * m + 1);
            }
            assertThat(Sockets.send(pair[0], messages.address(), 3)).isEqualTo(1);
            assertThat(messages.get(JAVA_INT, Sockets.MSG_LEN)).isEqualTo(2);
            long second = messages.address() + Sockets.MMSGHDR_BYTES;
            assertThat(Sockets.send(pair[0], second, 2)).isEqualTo(-Errno.EFAULT);
            assertThat(Sockets.send(pair[0], second + Sockets.MMSGHDR_BYTES, 1)).isEqualTo(1);
            assertThat(read(arena, pair[1])).isEqualTo("abef");
        }
        Linux.munmap(bad, 4096);
        Linux.close(pair[0]);
        Linux.close(pair[1]);
    }

    private static void message(MemorySegment messages, MemorySegment iovecs, int m, long first, long second) {
        long at = (long) m * Sockets.MMSGHDR_BYTES;
        long iovec = 2L * m * Sockets.IOVEC_BYTES;
        iovecs.set(JAVA_LONG, iovec, first);
        iovecs.set(JAVA_LONG, iovec + 8, 1);
        iovecs.set(JAVA_LONG, iovec + 16, second);
        iovecs.set(JAVA_LONG, iovec + 24, 1);
        messages.set(JAVA_LONG, at + Sockets.MSG_IOV, iovecs.address() + iovec);
        messages.set(JAVA_LONG, at + Sockets.MSG_IOVLEN, 2);
    }

    /** What Outbox relies on: net/unix/af_unix.c puts at least this much into one buffer. */
    @Test
    void thirtyFiveKibibytesLeaveAUnixSocketAsAWholeOrNotAtAll() throws IOException {
        int[] pair = Sockets.pair();
        int readable = 64 << 10;
        long memory = Linux.mmap(
                0,
                readable + Linux.PAGE_SIZE,
                Linux.PROT_READ | Linux.PROT_WRITE,
                Linux.MAP_PRIVATE | Linux.MAP_ANONYMOUS,
                -1,
                0);
        Linux.mprotect(memory + readable, Linux.PAGE_SIZE, Linux.PROT_NONE);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment messages = arena.allocate(Sockets.MMSGHDR_BYTES, 8);
            MemorySegment iovecs = arena.allocate(2L * Sockets.IOVEC_BYTES, 8);
            long data = (35 << 10) - 28;
            message(messages, iovecs, 0, memory, memory + readable - data + 1); // the last byte is not there
            iovecs.set(JAVA_LONG, 8, 28);
            iovecs.set(JAVA_LONG, 24, data);
            assertThat(Sockets.send(pair[0], messages.address(), 1)).isEqualTo(-Errno.EFAULT);
            assertThat(Sockets.awaitInput(pair[1], 0)).isFalse();
        }
        Linux.munmap(memory, readable + Linux.PAGE_SIZE);
        Linux.close(pair[0]);
        Linux.close(pair[1]);
    }

    @Test
    void waitingForInputEndsInTime() throws IOException {
        int[] pair = Sockets.pair();
        assertThat(Sockets.awaitInput(pair[0], 2_000_000)).isFalse();
        Linux.close(pair[1]);
        assertThat(Sockets.awaitInput(pair[0], Long.MAX_VALUE)).isTrue();
        Linux.close(pair[0]);
    }

    @Test
    void failuresNameCallAndAddress() {
        assertThatThrownBy(() -> Sockets.connect(directory.resolve("nobody")))
                .isInstanceOf(LinuxException.class)
                .hasMessageContaining("connect(" + directory.resolve("nobody"))
                .hasMessageContaining("ENOENT");
        assertThatThrownBy(() -> Sockets.listen(InetSocketAddress.createUnresolved("no.such.host.invalid", 1), 1))
                .isInstanceOf(LinuxException.class)
                .hasMessageContaining("no.such.host.invalid");
        assertThat(Sockets.family(1_000_000)).isEqualTo(-1);
    }
}

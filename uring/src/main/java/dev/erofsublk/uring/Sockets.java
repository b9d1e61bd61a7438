// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.net.Inet4Address;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.UnknownHostException;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/**
 * Sockets as plain descriptors, for what NIO cannot do: send from any address of the process, and hand a descriptor to
 * the kernel.
 *
 * <p>All descriptors are blocking and close-on-exec. A waiting call keeps its platform thread; it ends when another
 * thread calls {@link #shutdown}. Stateless and thread-safe.
 *
 * <p>The calls of the data path ({@link #read}, {@link #send}, {@link #writev}) return the kernel's result, a negative
 * error number for a failure, because there EFAULT and ECONNRESET are answers and not exceptions.
 */
public final class Sockets {
    // linux/socket.h, asm-generic/socket.h, linux/tcp.h
    public static final int AF_UNIX = 1;
    public static final int AF_INET = 2;
    public static final int AF_INET6 = 10;
    public static final int AF_NETLINK = 16;
    public static final int SOCK_STREAM = 1;
    public static final int SOCK_RAW = 3;
    public static final int SOL_SOCKET = 1;
    public static final int SO_REUSEADDR = 2;
    public static final int SO_SNDBUF = 7;
    public static final int SO_KEEPALIVE = 9;
    public static final int SO_DOMAIN = 39;
    private static final int SO_PEERCRED = 17;
    private static final int UCRED_BYTES = 12; // linux/socket.h, struct ucred: pid, uid, gid
    public static final int IPPROTO_TCP = 6;
    public static final int TCP_NODELAY = 1;
    private static final int SOCK_CLOEXEC = 02000000;
    private static final int MSG_NOSIGNAL = 0x4000;
    private static final int SHUT_WR = 1;
    private static final int SHUT_RDWR = 2;
    private static final short POLLIN = 1;

    /** Bytes of a {@code struct iovec}: address @0, length @8. */
    public static final int IOVEC_BYTES = 16;
    /**
     * Bytes of a {@code struct mmsghdr}: msg_name @0, msg_namelen @8, msg_iov @16, msg_iovlen @24, msg_control @32,
     * msg_controllen @40, msg_flags @48, and behind the msghdr msg_len @56, the bytes that were sent.
     */
    public static final int MMSGHDR_BYTES = 64;

    /** Where {@code msg_iov} lies in a {@code struct mmsghdr}. */
    public static final int MSG_IOV = 16;
    /** Where {@code msg_iovlen} lies in a {@code struct mmsghdr}. */
    public static final int MSG_IOVLEN = 24;
    /** Where {@code msg_len} lies in a {@code struct mmsghdr}. */
    public static final int MSG_LEN = 56;

    /** The most iovecs that one message may have ({@code UIO_MAXIOV}). */
    public static final int IOV_MAX = 1024;

    private static final int SUN_PATH_BYTES = 108;
    private static final int SOCKADDR_BYTES = 112;

    private Sockets() {}

    /** A new socket of {@code type} without the flags, for example {@link #SOCK_STREAM}. */
    public static int socket(int family, int type, int protocol) throws LinuxException {
        return (int) Linux.checked(
                Syscall.call(Syscall.SOCKET, family, type | SOCK_CLOEXEC, protocol, 0, 0, 0),
                "socket",
                "family " + family + ", type " + type);
    }

    /** Two connected unix stream sockets. */
    public static int[] pair() throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment fds = arena.allocate(8, 4);
            Linux.checked(
                    Syscall.call(Syscall.SOCKETPAIR, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.address(), 0, 0),
                    "socketpair",
                    "");
            return new int[] {fds.get(JAVA_INT, 0), fds.get(JAVA_INT, 4)};
        }
    }

    /**
     * A unix stream socket that listens at {@code path}, which must not exist.
     *
     * @throws LinuxException with EADDRINUSE if there is such a file
     */
    public static int listen(Path path, int backlog) throws LinuxException {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment name = address(arena, path);
            bind(fd, name, path.toString(), backlog);
            return fd;
        } catch (LinuxException | RuntimeException e) {
            Linux.close(fd);
            throw e;
        }
    }

    /** A TCP socket that listens at {@code address}; port 0 lets the kernel choose, see {@link #localAddress}. */
    public static int listen(InetSocketAddress address, int backlog) throws LinuxException {
        int fd = socket(address.getAddress() instanceof Inet4Address ? AF_INET : AF_INET6, SOCK_STREAM, 0);
        try (Arena arena = Arena.ofConfined()) {
            setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
            bind(fd, address(arena, address), address.toString(), backlog);
            return fd;
        } catch (LinuxException | RuntimeException e) {
            Linux.close(fd);
            throw e;
        }
    }

    private static void bind(int fd, MemorySegment name, String text, int backlog) throws LinuxException {
        Linux.checked(Syscall.call(Syscall.BIND, fd, name.address(), name.byteSize(), 0, 0, 0), "bind", text);
        Linux.checked(Syscall.call(Syscall.LISTEN, fd, backlog, 0, 0, 0, 0), "listen", text);
    }

    /** A unix stream socket connected to the one that listens at {@code path}. */
    public static int connect(Path path) throws LinuxException {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        try (Arena arena = Arena.ofConfined()) {
            connect(fd, address(arena, path), path.toString());
            return fd;
        } catch (LinuxException | RuntimeException e) {
            Linux.close(fd);
            throw e;
        }
    }

    /** A TCP socket connected to {@code address}. */
    public static int connect(InetSocketAddress address) throws LinuxException {
        int fd = socket(address.getAddress() instanceof Inet4Address ? AF_INET : AF_INET6, SOCK_STREAM, 0);
        try (Arena arena = Arena.ofConfined()) {
            connect(fd, address(arena, address), address.toString());
            return fd;
        } catch (LinuxException | RuntimeException e) {
            Linux.close(fd);
            throw e;
        }
    }

    private static void connect(int fd, MemorySegment name, String text) throws LinuxException {
        Linux.checked(Syscall.call(Syscall.CONNECT, fd, name.address(), name.byteSize(), 0, 0, 0), "connect", text);
    }

    /**
     * Waits for the next connection.
     *
     * @return its descriptor, or a negative error number: {@code -EINVAL} after {@link #shutdown} of the listening
     *     socket, {@code -EMFILE} and the like when this process has no descriptor left
     */
    public static int accept(int fd) {
        return (int) Syscall.call(Syscall.ACCEPT4, fd, 0, 0, SOCK_CLOEXEC, 0, 0);
    }

    /** Ends both directions: calls that wait on the socket return, whichever thread makes them. Errors are ignored. */
    public static void shutdown(int fd) {
        Syscall.call(Syscall.SHUTDOWN, fd, SHUT_RDWR, 0, 0, 0, 0);
    }

    /** Ends the sending direction: the other side reads the end behind what was sent. Errors are ignored. */
    public static void shutdownOutput(int fd) {
        Syscall.call(Syscall.SHUTDOWN, fd, SHUT_WR, 0, 0, 0, 0);
    }

    /** Sets an option that is an int. */
    public static void setOption(int fd, int level, int option, int value) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment v = arena.allocate(4, 4);
            v.set(JAVA_INT, 0, value);
            Linux.checked(
                    Syscall.call(Syscall.SETSOCKOPT, fd, level, option, v.address(), 4, 0),
                    "setsockopt",
                    "level " + level + ", option " + option + ", value " + value);
        }
    }

    /** The address family of a socket; -1 if {@code fd} is something else. */
    public static int family(int fd) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment domain = arena.allocate(4 + 4, 4);
            return getOption(fd, SO_DOMAIN, domain) < 0 ? -1 : domain.get(JAVA_INT, 0);
        }
    }

    /** The user who connected a unix socket, or who made it listen: as it was then. */
    public static int peerUser(int fd) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment credentials = arena.allocate(UCRED_BYTES + 4L, 4);
            Linux.checked(getOption(fd, SO_PEERCRED, credentials), "getsockopt", "SO_PEERCRED");
            return credentials.get(JAVA_INT, 4);
        }
    }

    /** Reads an option of {@code SOL_SOCKET} into {@code value}, the last four bytes of which are for its length. */
    private static long getOption(int fd, int option, MemorySegment value) {
        long length = value.byteSize() - 4;
        value.set(JAVA_INT, length, (int) length);
        return Syscall.call(Syscall.GETSOCKOPT, fd, SOL_SOCKET, option, value.address(), value.address() + length, 0);
    }

    /** Where a TCP socket is bound. */
    public static InetSocketAddress localAddress(int fd) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment name = arena.allocate(SOCKADDR_BYTES + 8, 8);
            name.set(JAVA_INT, SOCKADDR_BYTES, SOCKADDR_BYTES);
            Linux.checked(
                    Syscall.call(Syscall.GETSOCKNAME, fd, name.address(), name.address() + SOCKADDR_BYTES, 0, 0, 0),
                    "getsockname",
                    "fd " + fd);
            int port = Short.toUnsignedInt(name.get(JAVA_SHORT.withOrder(ByteOrder.BIG_ENDIAN), 2));
            boolean v4 = name.get(JAVA_SHORT, 0) == AF_INET;
            byte[] ip = name.asSlice(v4 ? 4 : 8, v4 ? 4 : 16).toArray(JAVA_BYTE);
            return new InetSocketAddress(InetAddress.getByAddress(ip), port);
        } catch (UnknownHostException impossible) {
            throw new AssertionError(impossible); // 4 and 16 bytes are the lengths of addresses
        }
    }

    /**
     * Waits until there is something to read, the end included.
     *
     * @param nanos at most this long; not negative
     * @return whether there is
     */
    public static boolean awaitInput(int fd, long nanos) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment m = arena.allocate(24, 8);
            m.set(JAVA_INT, 0, fd); // struct pollfd: fd, events, revents; then struct timespec
            m.set(JAVA_SHORT, 4, POLLIN);
            m.set(JAVA_LONG, 8, nanos / 1_000_000_000L);
            m.set(JAVA_LONG, 16, nanos % 1_000_000_000L);
            long r = Syscall.call(Syscall.PPOLL, m.address(), 1, m.address() + 8, 0, 0, 0);
            return r != -Errno.EINTR && Linux.checked(r, "ppoll", "fd " + fd) > 0;
        }
    }

    /**
     * Reads what is there, from a socket or a pipe, and waits if there is nothing.
     *
     * @return bytes read, 0 at the end of the stream, or a negative error number
     */
    public static int read(int fd, long address, int bytes) {
        long n;
        do {
            n = Syscall.call(Syscall.READ, fd, address, bytes, 0, 0, 0);
        } while (n == -Errno.EINTR);
        return (int) n;
    }

    /**
     * Sends messages: an array of {@code struct mmsghdr}, each with its iovecs. On a stream socket they are just
     * consecutive bytes; but a message that fails before its first byte left does so as a whole, and on a unix socket a
     * message of up to 35 KiB leaves as a whole or not at all (net/unix/af_unix.c, {@code unix_stream_sendmsg} fills a
     * buffer of at least that before it queues it).
     *
     * @return how many messages were sent, the last of them perhaps not to its end, which {@code msg_len} tells; or
     *     the negative error number of the first, of which then nothing was sent
     */
    public static int send(int fd, long messages, int count) {
        long n;
        do {
            n = Syscall.call(Syscall.SENDMMSG, fd, messages, count, MSG_NOSIGNAL, 0, 0);
        } while (n == -Errno.EINTR);
        return (int) n;
    }

    /** Sends bytes; returns how many, or a negative error number. */
    public static int send(int fd, MemorySegment bytes) {
        long n;
        do {
            n = Syscall.call(Syscall.SENDTO, fd, bytes.address(), bytes.byteSize(), MSG_NOSIGNAL, 0, 0);
        } while (n == -Errno.EINTR);
        return (int) n;
    }

    /** Writes iovecs to a pipe; returns the bytes, fewer where an address is bad, or a negative error number. */
    public static long writev(int fd, long iovecs, int count) {
        long n;
        do {
            n = Syscall.call(Syscall.WRITEV, fd, iovecs, count, 0, 0, 0);
        } while (n == -Errno.EINTR);
        return n;
    }

    private static MemorySegment address(Arena arena, Path path) throws LinuxException {
        byte[] name = path.toString().getBytes(StandardCharsets.UTF_8);
        if (name.length >= SUN_PATH_BYTES) {
            throw new LinuxException("sockaddr_un", path + ": more than " + (SUN_PATH_BYTES - 1) + " bytes", 36);
        }
        MemorySegment address = arena.allocate(2 + name.length + 1, 8);
        address.set(JAVA_SHORT, 0, (short) AF_UNIX);
        MemorySegment.copy(name, 0, address, JAVA_BYTE, 2, name.length);
        return address;
    }

    private static MemorySegment address(Arena arena, InetSocketAddress from) throws LinuxException {
        if (from.isUnresolved()) {
            throw new LinuxException("getaddrinfo", from.getHostString(), Errno.ENOENT);
        }
        byte[] ip = from.getAddress().getAddress();
        boolean v4 = ip.length == 4;
        MemorySegment address = arena.allocate(v4 ? 16 : 28, 8);
        address.set(JAVA_SHORT, 0, (short) (v4 ? AF_INET : AF_INET6));
        address.set(JAVA_SHORT.withOrder(ByteOrder.BIG_ENDIAN), 2, (short) from.getPort());
        MemorySegment.copy(ip, 0, address, JAVA_BYTE, v4 ? 4 : 8, ip.length);
        return address;
    }
}

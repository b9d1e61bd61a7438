// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Sockets;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/** Plain descriptors: a stream socket, or a pipe for each direction. They stay the caller's to close. */
final class FdWire implements Wire {
    private final int in;
    private final int out;
    private final int family; // -1: not a socket

    /** @param out the same as {@code in} for a socket */
    FdWire(int in, int out) throws LinuxException {
        this.in = in;
        this.out = out;
        family = Sockets.family(out);
        if (family == Sockets.AF_INET || family == Sockets.AF_INET6) {
            Sockets.setOption(out, Sockets.IPPROTO_TCP, Sockets.TCP_NODELAY, 1);
            Sockets.setOption(out, Sockets.SOL_SOCKET, Sockets.SO_KEEPALIVE, 1);
        }
    }

    @Override
    public int read(MemorySegment target, long at, int length) throws IOException {
        int n = Sockets.read(in, target.asSlice(at, length).address(), length);
        if (n < 0) {
            throw failed("read", -n);
        }
        return n;
    }

    @Override
    public void write(MemorySegment bytes) throws IOException {
        for (long done = 0; done < bytes.byteSize(); ) {
            long n = writeSome(bytes.asSlice(done));
            if (n < 0) {
                throw failed("write", (int) -n);
            }
            done += n;
        }
    }

    private long writeSome(MemorySegment bytes) {
        if (family >= 0) {
            return Sockets.send(out, bytes);
        }
        try (var arena = Arena.ofConfined()) {
            MemorySegment iovec = arena.allocate(Sockets.IOVEC_BYTES, 8);
            iovec.set(JAVA_LONG, 0, bytes.address());
            iovec.set(JAVA_LONG, 8, bytes.byteSize());
            return Sockets.writev(out, iovec.address(), 1);
        }
    }

    @Override
    public int send(MemorySegment messages, int count) throws IOException {
        int n = family >= 0 ? Sockets.send(out, messages.address(), count) : writeMessage(messages);
        if (n < 0 && n != -Errno.EFAULT) {
            throw failed("sendmmsg", -n);
        }
        return n;
    }

    private int writeMessage(MemorySegment messages) {
        long n = Sockets.writev(
                out, messages.get(JAVA_LONG, Sockets.MSG_IOV), (int) messages.get(JAVA_LONG, Sockets.MSG_IOVLEN));
        if (n < 0) {
            return (int) n;
        }
        messages.set(JAVA_INT, Sockets.MSG_LEN, (int) n);
        return 1;
    }

    private static IOException failed(String call, int errno) {
        return errno == Errno.EPIPE || errno == Errno.ECONNRESET
                ? Disconnect.byPeer()
                : new LinuxException(call, "client", errno);
    }

    @Override
    public boolean isAtomic() {
        return family == Sockets.AF_UNIX;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Sockets;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/**
 * A generic netlink socket: one request at a time, and its answer.
 *
 * {@snippet lang="c" :
 * struct nlmsghdr   { u32 len; u16 type; u16 flags; u32 seq; u32 pid; };     // linux/netlink.h, Linux 7.2
 * struct genlmsghdr { u8 cmd; u8 version; u16 reserved; };                   // linux/genetlink.h
 * struct nlattr     { u16 len; u16 type; };                                  // padded to 4 bytes
 * }
 *
 * <p>Not thread-safe.
 */
final class GenericNetlink implements AutoCloseable {
    private static final int NETLINK_GENERIC = 16;
    private static final int GENL_ID_CTRL = 16;
    private static final int CTRL_CMD_GETFAMILY = 3;
    private static final int CTRL_ATTR_FAMILY_ID = 1;
    private static final int CTRL_ATTR_FAMILY_NAME = 2;
    private static final int NLM_F_REQUEST = 1;
    private static final int NLM_F_ACK = 4;
    private static final int NLMSG_ERROR = 2;
    private static final int NLA_F_NESTED = 1 << 15;
    private static final int NLA_TYPE_MASK = 0x3fff;
    private static final int HEADER_BYTES = 20;
    private static final int BUFFER_BYTES = 64 << 10;
    /** Connecting a device takes up to some hundred milliseconds (facts/nbd.md §2). */
    private static final long TIMEOUT_NANOS = TimeUnit.SECONDS.toNanos(30);

    private final Arena arena = Arena.ofShared();
    private final MemorySegment buffer = arena.allocate(BUFFER_BYTES, 8);
    private final int fd;
    private int sequence;

    GenericNetlink() throws LinuxException {
        fd = Sockets.socket(Sockets.AF_NETLINK, Sockets.SOCK_RAW, NETLINK_GENERIC);
    }

    /**
     * The number of a family.
     *
     * @throws LinuxException with ENOENT if the kernel has no such family
     */
    int family(String name) throws IOException {
        Request request = request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
        request.put(CTRL_ATTR_FAMILY_NAME, name);
        ByteBuffer answer = call(request, "CTRL_CMD_GETFAMILY", name);
        ByteBuffer id = answer == null ? null : attribute(answer, CTRL_ATTR_FAMILY_ID);
        if (id == null) {
            throw new LinuxException("CTRL_CMD_GETFAMILY", name, Errno.ENOENT);
        }
        return Short.toUnsignedInt(id.getShort());
    }

    /** A request to be filled with attributes. */
    Request request(int family, int command) {
        return new Request(family, command);
    }

    /**
     * Sends a request and waits until it is done.
     *
     * @param what names the request in an exception
     * @return the attributes of the message that came before the acknowledgement, or null if there was none
     * @throws LinuxException with the error that the kernel gave; ETIMEDOUT if it gave nothing
     */
    @Nullable
    ByteBuffer call(Request request, String what, String arguments) throws IOException {
        int own = ++sequence;
        int length = request.finish(own);
        int sent = Sockets.send(fd, buffer.asSlice(0, length));
        if (sent < 0) {
            throw new LinuxException(what, arguments, -sent);
        }
        ByteBuffer answer = null;
        long end = System.nanoTime() + TIMEOUT_NANOS;
        for (; ; ) {
            long left = end - System.nanoTime();
            if (left <= 0) {
                throw new LinuxException(what, arguments, Errno.ETIMEDOUT);
            }
            if (!Sockets.awaitInput(fd, left)) {
                continue;
            }
            int n = Sockets.read(fd, buffer.address(), BUFFER_BYTES);
            if (n < 0) {
                throw new LinuxException(what, arguments, -n);
            }
            ByteBuffer messages = order(buffer.asSlice(0, n).asByteBuffer());
            while (messages.remaining() >= HEADER_BYTES) {
                int start = messages.position();
                int size = messages.getInt(start);
                if (size < 16 || size > messages.remaining()) {
                    throw new LinuxException(what, arguments, Errno.EIO);
                }
                if (messages.getInt(start + 8) == own) {
                    if (messages.getShort(start + 4) == NLMSG_ERROR) {
                        int error = -messages.getInt(start + 16);
                        if (error != 0) {
                            throw new LinuxException(what, arguments, error);
                        }
                        return answer; // an error of 0 is the acknowledgement
                    }
                    answer = copy(messages.slice(start + HEADER_BYTES, size - HEADER_BYTES));
                }
                messages.position(Math.min(messages.limit(), start + align(size)));
            }
        }
    }

    private static ByteBuffer copy(ByteBuffer from) {
        ByteBuffer copy = order(ByteBuffer.allocate(from.remaining()));
        return copy.put(from).flip();
    }

    private static ByteBuffer order(ByteBuffer buffer) {
        return buffer.order(ByteOrder.nativeOrder());
    }

    private static int align(int length) {
        return (length + 3) & ~3;
    }

    /** The value of the next attribute of {@code type}, from where {@code attributes} stands on; null if there is none. */
    static @Nullable ByteBuffer attribute(ByteBuffer attributes, int type) {
        while (attributes.remaining() >= 4) {
            int start = attributes.position();
            int length = Short.toUnsignedInt(attributes.getShort(start));
            if (length < 4 || length > attributes.remaining()) {
                return null;
            }
            int found = attributes.getShort(start + 2) & NLA_TYPE_MASK;
            attributes.position(Math.min(attributes.limit(), start + align(length)));
            if (found == type) {
                return order(attributes.slice(start + 4, length - 4));
            }
        }
        return null;
    }

    @Override
    public void close() {
        Linux.close(fd);
        arena.close();
    }

    /** Attributes on their way into the buffer. */
    final class Request {
        private final ByteBuffer out = order(buffer.asByteBuffer());

        private Request(int family, int command) {
            out.putInt(0).putShort((short) family).putShort((short) (NLM_F_REQUEST | NLM_F_ACK));
            out.putInt(0).putInt(0);
            out.put((byte) command).put((byte) 1).putShort((short) 0);
        }

        Request put(int type, int value) {
            out.putShort((short) 8).putShort((short) type).putInt(value);
            return this;
        }

        Request put(int type, long value) {
            out.putShort((short) 12).putShort((short) type).putLong(value);
            return this;
        }

        Request put(int type, String value) {
            byte[] text = value.getBytes(StandardCharsets.UTF_8);
            int length = 4 + text.length + 1;
            out.putShort((short) length).putShort((short) type).put(text);
            out.put(new byte[align(length) - length + 1]);
            return this;
        }

        /** Opens an attribute that holds others; {@link #end} takes what this returns. */
        int begin(int type) {
            int at = out.position();
            out.putShort((short) 0).putShort((short) (type | NLA_F_NESTED));
            return at;
        }

        void end(int begun) {
            out.putShort(begun, (short) (out.position() - begun));
        }

        private int finish(int sequence) {
            return out.putInt(0, out.position()).putInt(8, sequence).position();
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/**
 * The commands of the kernel's nbd driver, by generic netlink (linux/nbd-netlink.h, drivers/block/nbd.c of Linux 7.2).
 *
 * <p>Not the ioctls: {@code NBD_DO_IT} keeps a thread in the kernel, and any signal to it, such as a profiler's, ends the
 * device.
 */
final class NbdDriver implements AutoCloseable {
    private static final int CMD_CONNECT = 1;
    private static final int CMD_DISCONNECT = 2;
    private static final int CMD_RECONFIGURE = 3;
    private static final int CMD_STATUS = 5;

    private static final int ATTR_INDEX = 1;
    private static final int ATTR_SIZE_BYTES = 2;
    private static final int ATTR_BLOCK_SIZE_BYTES = 3;
    private static final int ATTR_TIMEOUT = 4;
    private static final int ATTR_SERVER_FLAGS = 5;
    private static final int ATTR_CLIENT_FLAGS = 6;
    private static final int ATTR_SOCKETS = 7;
    private static final int ATTR_DEAD_CONN_TIMEOUT = 8;
    private static final int ATTR_DEVICE_LIST = 9;
    private static final int ATTR_BACKEND_IDENTIFIER = 10;
    private static final int SOCK_ITEM = 1;
    private static final int SOCK_FD = 1;
    private static final int DEVICE_ITEM = 1;
    private static final int DEVICE_INDEX = 1;
    private static final int DEVICE_CONNECTED = 2;

    private static final long CFLAG_DESTROY_ON_DISCONNECT = 1;

    private final GenericNetlink netlink;
    private final int family;

    /** @throws IOException saying what to do, if the kernel has no such driver */
    NbdDriver() throws IOException {
        netlink = new GenericNetlink();
        try {
            family = netlink.family("nbd");
        } catch (LinuxException e) {
            netlink.close();
            if (e.errno() == Errno.ENOENT) {
                throw new IOException("the kernel has no nbd driver; load it: modprobe nbd", e);
            }
            throw e;
        }
    }

    /**
     * Makes a device.
     *
     * @param index the wish, or -1
     * @param sockets the kernel's ends; they may be closed after this
     * @return the device's index
     * @throws LinuxException with EBUSY if that index is in use
     */
    int connect(int index, long bytes, int blockSize, NbdDevice.Options options, int[] sockets) throws IOException {
        GenericNetlink.Request request = netlink.request(family, CMD_CONNECT);
        if (index >= 0) {
            request.put(ATTR_INDEX, index);
        }
        request.put(ATTR_SIZE_BYTES, bytes)
                .put(ATTR_BLOCK_SIZE_BYTES, (long) blockSize)
                .put(ATTR_SERVER_FLAGS, (long) (Nbd.FLAG_HAS_FLAGS | Nbd.FLAG_READ_ONLY | Nbd.FLAG_CAN_MULTI_CONN));
        if (options.destroyOnDisconnect()) {
            request.put(ATTR_CLIENT_FLAGS, CFLAG_DESTROY_ON_DISCONNECT);
        }
        putTimeouts(request, options);
        putSockets(request, sockets);
        ByteBuffer answer = netlink.call(request, "NBD_CMD_CONNECT", index < 0 ? "any device" : "/dev/nbd" + index);
        ByteBuffer given = answer == null ? null : GenericNetlink.attribute(answer, ATTR_INDEX);
        if (given == null) {
            throw new LinuxException("NBD_CMD_CONNECT", "no index in the answer", Errno.EIO);
        }
        return given.getInt();
    }

    /**
     * Gives a device new sockets in place of dead ones. The kernel succeeds, and drops the sockets, where it has no dead
     * one yet.
     *
     * @throws LinuxException with EINVAL if the device has another backend identifier or is not connected
     */
    void reconfigure(int index, NbdDevice.Options options, int[] sockets) throws IOException {
        GenericNetlink.Request request =
                netlink.request(family, CMD_RECONFIGURE).put(ATTR_INDEX, index);
        putTimeouts(request, options);
        putSockets(request, sockets);
        netlink.call(request, "NBD_CMD_RECONFIGURE", "/dev/nbd" + index);
    }

    private static void putTimeouts(GenericNetlink.Request request, NbdDevice.Options options) {
        request.put(ATTR_DEAD_CONN_TIMEOUT, seconds(options.deadConnectionTimeout()));
        if (!options.timeout().isZero()) {
            request.put(ATTR_TIMEOUT, seconds(options.timeout()));
        }
        if (!options.backend().isEmpty()) {
            request.put(ATTR_BACKEND_IDENTIFIER, options.backend());
        }
    }

    private static long seconds(Duration duration) {
        return duration.plusMillis(999).toSeconds();
    }

    private static void putSockets(GenericNetlink.Request request, int[] sockets) {
        int list = request.begin(ATTR_SOCKETS);
        for (int socket : sockets) {
            int item = request.begin(SOCK_ITEM);
            request.put(SOCK_FD, socket);
            request.end(item);
        }
        request.end(list);
    }

    /** Ends a device, mounted or not. */
    void disconnect(int index) throws IOException {
        netlink.call(
                netlink.request(family, CMD_DISCONNECT).put(ATTR_INDEX, index),
                "NBD_CMD_DISCONNECT",
                "/dev/nbd" + index);
    }

    /** The indexes of the devices that are connected. */
    List<Integer> connected() throws IOException {
        ByteBuffer answer = netlink.call(netlink.request(family, CMD_STATUS), "NBD_CMD_STATUS", "");
        ByteBuffer list = answer == null ? null : GenericNetlink.attribute(answer, ATTR_DEVICE_LIST);
        List<Integer> found = new ArrayList<>();
        for (ByteBuffer item; list != null && (item = GenericNetlink.attribute(list, DEVICE_ITEM)) != null; ) {
            ByteBuffer index = GenericNetlink.attribute(item.duplicate().order(item.order()), DEVICE_INDEX);
            ByteBuffer connected = GenericNetlink.attribute(item, DEVICE_CONNECTED);
            if (index != null && connected != null && connected.get() != 0) {
                found.add(index.getInt());
            }
        }
        return found;
    }

    @Override
    public void close() {
        netlink.close();
    }
}

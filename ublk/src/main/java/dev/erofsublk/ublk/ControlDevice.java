// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import dev.erofsublk.uring.Cqe;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.IoUring;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Ring;
import dev.erofsublk.uring.Sqe;
import dev.erofsublk.uring.Sysctl;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.BitSet;
import java.util.List;
import java.util.Optional;
import java.util.TreeSet;

/**
 * {@code /dev/ublk-control}: adds, starts, stops and deletes devices.
 *
 * <p>Commands are {@code struct ublksrv_ctrl_cmd} in the command area of a 128-byte submission entry:
 *
 * {@snippet lang="c" :
 * struct ublksrv_ctrl_cmd {         // Linux 7.2, linux/ublk_cmd.h; 32 bytes
 *     __u32 dev_id;                 // @0
 *     __u16 queue_id;               // @4   0xffff where no queue is meant
 *     __u16 len;                    // @6   of the buffer
 *     __u64 addr;                   // @8   the buffer, in or out
 *     __u64 data[1];                // @16
 *     __u16 dev_path_len;           // @24  of the path before the payload, where a device may be unprivileged
 * };
 * }
 *
 * <p>Thread-safe, one command at a time: a command that waits, as {@link #start} does for its queues, keeps the others
 * waiting. Open one control device for each thing that goes on by itself.
 */
public final class ControlDevice implements AutoCloseable {
    public static final Path PATH = Path.of("/dev/ublk-control");

    static final int DEV_ID = 0;
    static final int QUEUE_ID = 4;
    static final int LEN = 6;
    static final int ADDR = 8;
    static final int DATA = 16;
    static final int DEV_PATH_LEN = 24;

    private static final Path CHAR_DEVICES = Path.of("/sys/class/ublk-char");
    private static final int NO_QUEUE = 0xffff;
    private static final int BUFFER_BYTES = 4096;
    /** CPUs that an affinity mask has room for, which has to be at least what the kernel was built for. */
    private static final int AFFINITY_BYTES = 1024;

    private final int fd;
    private final Ring ring;
    private final Arena arena;
    private final MemorySegment buffer;
    private final long features;
    private boolean legacyEncoding;
    private boolean closed;

    private ControlDevice(int fd, Ring ring) {
        this.fd = fd;
        this.ring = ring;
        arena = Arena.ofShared();
        buffer = arena.allocate(BUFFER_BYTES, 8);
        features = readFeatures();
    }

    /**
     * Opens the control device.
     *
     * @throws UblkUnavailableException if there is none, or the caller may not use it or io_uring
     */
    public static ControlDevice open() throws IOException {
        int fd = openNode();
        try {
            return new ControlDevice(fd, Ring.create(4, IoUring.IORING_SETUP_SQE128));
        } catch (LinuxException e) {
            Linux.close(fd);
            throw new UblkUnavailableException(
                    switch (e.errno()) {
                        case Errno.EPERM ->
                            "io_uring is disabled: /proc/sys/kernel/io_uring_disabled is %s, expected 0"
                                    .formatted(sysctl("kernel/io_uring_disabled"));
                        case Errno.ENOSYS -> "this kernel was built without io_uring";
                        default -> e.getMessage();
                    });
        }
    }

    private static int openNode() throws IOException {
        try {
            return Linux.open(PATH.toString(), Linux.O_RDWR);
        } catch (LinuxException e) {
            throw new UblkUnavailableException(
                    switch (e.errno()) {
                        case Errno.ENOENT ->
                            Files.exists(Path.of("/sys/module/ublk_drv"))
                                    ? PATH
                                            + " is missing although the module ublk_drv is loaded: is devtmpfs mounted on"
                                            + " /dev?"
                                    : PATH
                                            + " is missing: load the kernel module with 'modprobe ublk_drv' (Linux 6.0 or"
                                            + " newer)";
                        case Errno.EACCES, Errno.EPERM ->
                            PATH + " may not be opened by user id " + Linux.effectiveUserId() + ": run as root";
                        case Errno.ENODEV, 6 -> PATH + " has no driver: load it with 'modprobe ublk_drv'";
                        default -> e.getMessage();
                    });
        }
    }

    private static String sysctl(String name) {
        try {
            return Long.toString(Sysctl.number(name));
        } catch (LinuxException e) {
            return "missing";
        }
    }

    private long readFeatures() {
        try {
            buffer.set(JAVA_LONG, 0, 0);
            perform(UblkCmd.GET_FEATURES, -1, NO_QUEUE, 0, UblkCmd.FEATURES_LEN, 0);
            return buffer.get(JAVA_LONG, 0);
        } catch (LinuxException beforeLinux65) {
            return 0;
        }
    }

    /** The {@link Feature} bits that the kernel offers; 0 on one too old to say (before 6.5). */
    public long features() {
        return features;
    }

    /**
     * Adds a device; nothing can be read from it yet.
     *
     * @return what the kernel made of the request: queues, depth and buffer size may be less, flags may be more
     */
    synchronized DeviceInfo add(DeviceInfo request) throws LinuxException {
        request.write(buffer);
        perform(UblkCmd.ADD_DEV, request.id(), NO_QUEUE, 0, DeviceInfo.BYTES, 0);
        return DeviceInfo.read(buffer);
    }

    synchronized void setParameters(int id, Parameters parameters) throws LinuxException {
        int at = pathFor(id);
        parameters.write(buffer.asSlice(at));
        perform(UblkCmd.SET_PARAMS, id, NO_QUEUE, at, Parameters.BYTES, 0);
    }

    /** The limits that the device has. */
    public synchronized Parameters parameters(int id) throws LinuxException {
        int at = pathFor(id);
        buffer.asSlice(at, Parameters.BYTES).fill((byte) 0);
        buffer.set(JAVA_INT, at + Parameters.LEN, Parameters.BYTES);
        perform(UblkCmd.GET_PARAMS, id, NO_QUEUE, at, Parameters.BYTES, 0);
        return Parameters.read(buffer.asSlice(at));
    }

    /** Makes the device readable; waits until all tags of all its queues are fetched. */
    synchronized void start(int id) throws LinuxException {
        command(UblkCmd.START_DEV, id, Linux.processId());
    }

    /**
     * Begins a take-over: a device without a server gets ready for a new one to fetch its tags.
     *
     * @throws LinuxException with EBUSY while the old server, or what is left of it, still has the device; EINVAL if the
     *     device was added without recovery, and on Linux 6.12 also if a take-over was begun and given up before
     */
    synchronized void startRecovery(int id) throws LinuxException {
        command(UblkCmd.START_USER_RECOVERY, id, 0);
    }

    /**
     * Ends a take-over: readers go on.
     *
     * <p>Only after {@link #startRecovery} succeeded and every tag is fetched: Linux 6.12 believes anyone, and makes a
     * device without a server LIVE (facts/experiments.md §1).
     */
    synchronized void endRecovery(int id) throws LinuxException {
        command(UblkCmd.END_USER_RECOVERY, id, Linux.processId());
    }

    /**
     * Takes the device from its server without losing a request: its queues end, readers wait (Linux 6.16).
     *
     * @param timeoutMillis how long to wait for a queue that is busy, more than 0
     * @throws LinuxException with EOPNOTSUPP where the kernel or the device has no such thing, EBUSY after the time
     */
    public synchronized void quiesce(int id, long timeoutMillis) throws LinuxException {
        command(UblkCmd.QUIESCE_DEV, id, timeoutMillis);
    }

    /**
     * As {@link #stop}, unless somebody has the block device open (Linux 7.0).
     *
     * @throws LinuxException with EBUSY if so; EOPNOTSUPP where the kernel has no such thing; ENODEV if the device has
     *     no block device at the moment
     */
    public synchronized void tryStop(int id) throws LinuxException {
        command(UblkCmd.TRY_STOP_DEV, id, 0);
    }

    /** Fails what is in flight and takes the block device away; its server's queues end. */
    public synchronized void stop(int id) throws LinuxException {
        command(UblkCmd.STOP_DEV, id, 0);
    }

    /**
     * Deletes a device and waits until its last reference is gone: its server must have closed
     * {@code /dev/ublkcN}, readers {@code /dev/ublkbN}.
     *
     * @return false if there is no such device, which may be the work of somebody else
     */
    public synchronized boolean delete(int id) throws LinuxException {
        return deleted(UblkCmd.DEL_DEV, id);
    }

    /** As {@link #delete}, without waiting where the kernel offers that (Linux 6.9). */
    public synchronized boolean deleteSoon(int id) throws LinuxException {
        try {
            return deleted(UblkCmd.DEL_DEV_ASYNC, id);
        } catch (LinuxException e) {
            // EINVAL: no kernel up to 7.2 lets an unprivileged user have it
            if (e.errno() != Errno.EOPNOTSUPP && e.errno() != Errno.EINVAL) {
                throw e;
            }
            return deleted(UblkCmd.DEL_DEV, id);
        }
    }

    private boolean deleted(int command, int id) throws LinuxException {
        try {
            command(command, id, 0);
            return true;
        } catch (LinuxException e) {
            if (e.errno() == Errno.ENODEV) {
                return false;
            }
            throw e;
        }
    }

    /**
     * What the kernel says of device {@code id}, or nothing if there is none.
     *
     * @throws LinuxException with EACCES if its node belongs to somebody else, or ENOENT if it has none yet, and the
     *     caller has no {@code CAP_SYS_ADMIN}
     */
    public synchronized Optional<DeviceInfo> find(int id) throws LinuxException {
        try {
            return Optional.of(info(id));
        } catch (LinuxException e) {
            if (e.errno() == Errno.ENODEV) {
                return Optional.empty();
            }
            throw e;
        }
    }

    private DeviceInfo info(int id) throws LinuxException {
        int at = putPath(id);
        try {
            // GET_DEV_INFO2 takes the path of the node, which an unprivileged device demands (Linux 6.3)
            perform(UblkCmd.GET_DEV_INFO2, id, NO_QUEUE, at, DeviceInfo.BYTES, 0);
        } catch (LinuxException e) {
            if (e.errno() == Errno.ENODEV) {
                throw e;
            }
            at = 0;
            try {
                perform(UblkCmd.GET_DEV_INFO, id, NO_QUEUE, at, DeviceInfo.BYTES, 0);
            } catch (LinuxException denied) {
                if (denied.errno() == Errno.ENODEV) {
                    throw denied;
                }
                // an unprivileged device has an answer to the first only, which said what is wrong with its node
                e.addSuppressed(denied);
                throw e;
            }
        }
        return DeviceInfo.read(buffer.asSlice(at));
    }

    /** The CPUs from which queue {@code queue} gets its requests. */
    synchronized BitSet affinity(int id, int queue) throws LinuxException {
        int at = pathFor(id);
        buffer.asSlice(at, AFFINITY_BYTES).fill((byte) 0);
        perform(UblkCmd.GET_QUEUE_AFFINITY, id, NO_QUEUE, at, AFFINITY_BYTES, queue);
        return BitSet.valueOf(buffer.asSlice(at, AFFINITY_BYTES).toArray(JAVA_BYTE));
    }

    /** The ids of all devices on this machine, whoever serves them, in ascending order. */
    public static List<Integer> ids() throws IOException {
        TreeSet<Integer> ids = new TreeSet<>();
        try (DirectoryStream<Path> nodes = Files.newDirectoryStream(CHAR_DEVICES, "ublkc*")) {
            for (Path node : nodes) {
                ids.add(Integer.valueOf(node.getFileName().toString().substring("ublkc".length())));
            }
        } catch (NoSuchFileException noModule) {
            return List.of();
        }
        return List.copyOf(ids);
    }

    /** Makes a command without payload and waits for its answer. */
    private void command(int op, int id, long data) throws LinuxException {
        perform(op, id, NO_QUEUE, pathFor(id), 0, data);
    }

    /**
     * Puts the path of the node into the buffer where the command needs it: for an unprivileged device, whose commands
     * anybody may try and the permissions of its node decide (drivers/block/ublk_drv.c,
     * ublk_ctrl_uring_cmd_permission). Others must not have it.
     *
     * @return the offset of the payload in the buffer
     */
    private int pathFor(int id) throws LinuxException {
        return Feature.UNPRIVILEGED_DEV.in(features) && info(id).has(Feature.UNPRIVILEGED_DEV) ? putPath(id) : 0;
    }

    private int putPath(int id) {
        byte[] path = (DeviceInfo.charPath(id) + "\0").getBytes(StandardCharsets.US_ASCII);
        int bytes = (path.length + 7) & ~7;
        buffer.asSlice(0, bytes).fill((byte) 0);
        MemorySegment.copy(path, 0, buffer, JAVA_BYTE, 0, path.length);
        return bytes;
    }

    /** Makes a command with {@code pathBytes + payload} bytes of the buffer and waits for its answer. */
    private void perform(int op, int id, int queue, int pathBytes, int payload, long data) throws LinuxException {
        int result = legacyEncoding && UblkCmd.hasLegacyEncoding(op)
                ? submit(UblkCmd.number(op), id, queue, pathBytes, payload, data)
                : submit(op, id, queue, pathBytes, payload, data);
        if (result == -Errno.EOPNOTSUPP && !legacyEncoding && UblkCmd.hasLegacyEncoding(op)) {
            // before Linux 6.4 commands were bare numbers
            result = submit(UblkCmd.number(op), id, queue, pathBytes, payload, data);
            legacyEncoding = result != -Errno.EOPNOTSUPP;
        }
        if (result < 0) {
            throw new LinuxException(UblkCmd.name(op), "device " + (id == -1 ? "any" : id), -result);
        }
    }

    private int submit(int op, int id, int queue, int pathBytes, int payload, long data) throws LinuxException {
        long at = ring.nextSqe();
        MemorySegment sqes = ring.sqes();
        Sqe.opcode(sqes, at, IoUring.IORING_OP_URING_CMD);
        Sqe.fd(sqes, at, fd);
        Sqe.commandOp(sqes, at, op);
        long cmd = at + Sqe.CMD;
        sqes.set(JAVA_INT, cmd + DEV_ID, id);
        sqes.set(JAVA_SHORT, cmd + QUEUE_ID, (short) queue);
        sqes.set(JAVA_SHORT, cmd + LEN, (short) (pathBytes + payload));
        sqes.set(JAVA_LONG, cmd + ADDR, pathBytes + payload == 0 ? 0 : buffer.address());
        sqes.set(JAVA_LONG, cmd + DATA, data);
        sqes.set(JAVA_SHORT, cmd + DEV_PATH_LEN, (short) pathBytes);
        do {
            ring.submitAndWait(1);
        } while (ring.ready() == 0);
        int result = Cqe.result(ring.cqes(), ring.cqe(0));
        ring.consume(1);
        return result;
    }

    @Override
    public synchronized void close() {
        if (!closed) {
            closed = true;
            ring.close();
            Linux.close(fd);
            arena.close();
        }
    }
}

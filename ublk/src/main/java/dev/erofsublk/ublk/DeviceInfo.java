// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import java.lang.foreign.MemorySegment;

/**
 * What the kernel says of a device.
 *
 * {@snippet lang="c" :
 * struct ublksrv_ctrl_dev_info {    // Linux 7.2, linux/ublk_cmd.h; 64 bytes
 *     __u16 nr_hw_queues;           // @0
 *     __u16 queue_depth;            // @2
 *     __u16 state;                  // @4
 *     __u32 max_io_buf_bytes;       // @8
 *     __u32 dev_id;                 // @12
 *     __s32 ublksrv_pid;            // @16
 *     __u64 flags;                  // @24
 *     __u64 ublksrv_flags;          // @32  the server's own: token
 *     __u32 owner_uid, owner_gid;   // @40, @44
 * };
 * }
 *
 * @param id the N of {@code /dev/ublkbN}; -1 in a request for any
 * @param queues hardware queues, at most one for each CPU
 * @param depth requests that a queue may have in flight, 1 to 4096
 * @param maxIoBytes the longest request in bytes, a multiple of the page size
 * @param pid thread group of the server; on 6.12 the dead one's while QUIESCED, so trust {@link #state}
 * @param flags {@link Feature} bits; kernels add some that nobody asked for
 * @param token the server's own number, which the kernel keeps and never looks at
 * @param ownerUid the user who added it
 * @param ownerGid that user's group
 */
public record DeviceInfo(
        int id,
        int queues,
        int depth,
        DeviceState state,
        int maxIoBytes,
        int pid,
        long flags,
        long token,
        int ownerUid,
        int ownerGid) {
    static final int BYTES = 64;
    static final int NR_HW_QUEUES = 0;
    static final int QUEUE_DEPTH = 2;
    static final int STATE = 4;
    static final int MAX_IO_BUF_BYTES = 8;
    static final int DEV_ID = 12;
    static final int UBLKSRV_PID = 16;
    static final int FLAGS = 24;
    static final int UBLKSRV_FLAGS = 32;
    static final int OWNER_UID = 40;
    static final int OWNER_GID = 44;

    static DeviceInfo request(DeviceOptions options, long offered) {
        return new DeviceInfo(
                options.id(),
                options.queues(),
                options.depth(),
                DeviceState.DEAD,
                options.maxIoBytes(),
                0,
                options.flags(offered),
                options.token(),
                0,
                0);
    }

    static DeviceInfo read(MemorySegment info) {
        return new DeviceInfo(
                info.get(JAVA_INT, DEV_ID),
                info.get(JAVA_SHORT, NR_HW_QUEUES) & 0xffff,
                info.get(JAVA_SHORT, QUEUE_DEPTH) & 0xffff,
                DeviceState.of(info.get(JAVA_SHORT, STATE)),
                info.get(JAVA_INT, MAX_IO_BUF_BYTES),
                info.get(JAVA_INT, UBLKSRV_PID),
                info.get(JAVA_LONG, FLAGS),
                info.get(JAVA_LONG, UBLKSRV_FLAGS),
                info.get(JAVA_INT, OWNER_UID),
                info.get(JAVA_INT, OWNER_GID));
    }

    void write(MemorySegment info) {
        info.fill((byte) 0);
        info.set(JAVA_SHORT, NR_HW_QUEUES, (short) queues);
        info.set(JAVA_SHORT, QUEUE_DEPTH, (short) depth);
        info.set(JAVA_INT, MAX_IO_BUF_BYTES, maxIoBytes);
        info.set(JAVA_INT, DEV_ID, id);
        info.set(JAVA_LONG, FLAGS, flags);
        info.set(JAVA_LONG, UBLKSRV_FLAGS, token);
    }

    public boolean has(Feature feature) {
        return feature.in(flags);
    }

    /** How the bytes of a read get into it; never {@link DataPath#AUTO}. */
    public DataPath dataPath() {
        return DataPath.of(flags);
    }

    /** The device that is read and mounted. */
    public String blockPath() {
        return "/dev/ublkb" + id;
    }

    /** The device through which it is served. */
    public String charPath() {
        return charPath(id);
    }

    static String charPath(int id) {
        return "/dev/ublkc" + id;
    }
}

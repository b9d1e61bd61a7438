// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.erofsublk.uring.IoUring;
import dev.erofsublk.uring.Sqe;
import java.lang.foreign.MemorySegment;

/**
 * A fetch or commit, in the command area of a submission entry.
 *
 * {@snippet lang="c" :
 * struct ublksrv_io_cmd {           // Linux 7.2, linux/ublk_cmd.h; 16 bytes
 *     __u16 q_id;                   // @0
 *     __u16 tag;                    // @2
 *     __s32 result;                 // @4   of the request that is committed: bytes, or a negative error number
 *     __u64 addr;                   // @8   where the driver copies a read's bytes from
 * };
 * }
 */
final class IoCmd {
    static final int Q_ID = 0;
    static final int TAG = 2;
    static final int RESULT = 4;
    static final int ADDR = 8;

    private IoCmd() {}

    /**
     * The first eight bytes of each entry of a queue: opcode, flags and descriptor.
     *
     * @param flags {@code IOSQE_*}
     * @param fd the device, or with {@link IoUring#IOSQE_FIXED_FILE} the index of a registered file
     */
    static long head(int flags, int fd) {
        return IoUring.IORING_OP_URING_CMD | ((long) flags << (8 * Sqe.FLAGS)) | ((long) fd << (8 * Sqe.FD));
    }

    /**
     * Writes all 64 bytes of an entry, eight at a time, whatever they were (Linux and this project are little-endian on
     * both architectures).
     *
     * @param head see {@link #head}
     * @param buffer with {@link Feature#AUTO_BUF_REG} the registered buffer that is to be the next request's (struct
     *     ublk_auto_buf_reg, without fallback), else 0
     * @param address with that feature 0, else never: the driver answers -EINVAL otherwise and leaves the request with
     *     the server, even where no byte is copied (drivers/block/ublk_drv.c, ublk_check_commit_and_fetch)
     */
    static void write(
            MemorySegment sqes,
            long at,
            long head,
            int command,
            int queue,
            int tag,
            int result,
            int buffer,
            long address) {
        sqes.set(JAVA_LONG, at, head);
        sqes.set(JAVA_LONG, at + Sqe.CMD_OP, Integer.toUnsignedLong(command));
        sqes.set(JAVA_LONG, at + Sqe.ADDR, buffer);
        sqes.set(JAVA_LONG, at + Sqe.LEN, 0);
        sqes.set(JAVA_LONG, at + Sqe.USER_DATA, tag);
        sqes.set(JAVA_LONG, at + Sqe.BUF_INDEX, 0);
        sqes.set(JAVA_LONG, at + Sqe.CMD + Q_ID, queue | ((long) tag << (8 * TAG)) | ((long) result << (8 * RESULT)));
        sqes.set(JAVA_LONG, at + Sqe.CMD + ADDR, address);
    }
}

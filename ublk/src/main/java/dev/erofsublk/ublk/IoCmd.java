// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

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
     * Fills in a zeroed entry.
     *
     * @param address never 0: the driver answers -EINVAL then and leaves the request with the server, even where no
     *     byte is copied (drivers/block/ublk_drv.c, ublk_check_commit_and_fetch)
     */
    static void fill(MemorySegment sqes, long at, int fd, int command, int queue, int tag, int result, long address) {
        Sqe.opcode(sqes, at, IoUring.IORING_OP_URING_CMD);
        Sqe.fd(sqes, at, fd);
        Sqe.commandOp(sqes, at, command);
        Sqe.userData(sqes, at, tag);
        sqes.set(JAVA_SHORT, at + Sqe.CMD + Q_ID, (short) queue);
        sqes.set(JAVA_SHORT, at + Sqe.CMD + TAG, (short) tag);
        sqes.set(JAVA_INT, at + Sqe.CMD + RESULT, result);
        sqes.set(JAVA_LONG, at + Sqe.CMD + ADDR, address);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import java.lang.foreign.MemorySegment;

/**
 * Accessors for {@code struct io_uring_sqe}, a submission queue entry, at a byte offset in {@link Ring#sqes()}.
 *
 * {@snippet lang="c" :
 * struct io_uring_sqe {          // Linux 7.2, linux/io_uring.h
 *     __u8  opcode;              // @0
 *     __u8  flags;               // @1  IOSQE_*
 *     __u16 ioprio;              // @2
 *     __s32 fd;                  // @4
 *     __u64 off;                 // @8  or __u32 cmd_op for IORING_OP_URING_CMD
 *     __u64 addr;                // @16
 *     __u32 len;                 // @24
 *     __u32 rw_flags;            // @28 or fadvise_advice, uring_cmd_flags, ...
 *     __u64 user_data;           // @32
 *     __u16 buf_index;           // @40
 *     __u16 personality;         // @42
 *     __s32 splice_fd_in;        // @44
 *     __u8  cmd[];               // @48: 16 bytes, or 80 with IORING_SETUP_SQE128
 * };
 * }
 *
 * <p>Constant offsets and not VarHandles, which cost twice as much here and start slower (facts/java.md §1a).
 */
public final class Sqe {
    public static final int BYTES = 64;
    public static final int WIDE_BYTES = 128;
    public static final int OPCODE = 0;
    public static final int FLAGS = 1;
    public static final int FD = 4;
    public static final int OFF = 8;
    public static final int CMD_OP = 8;
    public static final int ADDR = 16;
    public static final int LEN = 24;
    public static final int ADVICE = 28;
    public static final int POLL_EVENTS = 28;
    public static final int USER_DATA = 32;
    public static final int BUF_INDEX = 40;
    /** Where the payload of IORING_OP_URING_CMD begins. */
    public static final int CMD = 48;

    private Sqe() {}

    public static void opcode(MemorySegment sqes, long at, int opcode) {
        sqes.set(JAVA_BYTE, at + OPCODE, (byte) opcode);
    }

    public static void flags(MemorySegment sqes, long at, int flags) {
        sqes.set(JAVA_BYTE, at + FLAGS, (byte) flags);
    }

    public static void fd(MemorySegment sqes, long at, int fd) {
        sqes.set(JAVA_INT, at + FD, fd);
    }

    public static void offset(MemorySegment sqes, long at, long offset) {
        sqes.set(JAVA_LONG, at + OFF, offset);
    }

    public static void commandOp(MemorySegment sqes, long at, int op) {
        sqes.set(JAVA_INT, at + CMD_OP, op);
    }

    public static void address(MemorySegment sqes, long at, long address) {
        sqes.set(JAVA_LONG, at + ADDR, address);
    }

    public static void length(MemorySegment sqes, long at, int bytes) {
        sqes.set(JAVA_INT, at + LEN, bytes);
    }

    public static void advice(MemorySegment sqes, long at, int advice) {
        sqes.set(JAVA_INT, at + ADVICE, advice);
    }

    public static void pollEvents(MemorySegment sqes, long at, int events) {
        sqes.set(JAVA_INT, at + POLL_EVENTS, events);
    }

    public static void userData(MemorySegment sqes, long at, long value) {
        sqes.set(JAVA_LONG, at + USER_DATA, value);
    }

    public static void bufferIndex(MemorySegment sqes, long at, int index) {
        sqes.set(JAVA_SHORT, at + BUF_INDEX, (short) index);
    }
}

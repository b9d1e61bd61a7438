// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.erofsublk.uring.IoUring;
import dev.erofsublk.uring.Sqe;
import java.lang.foreign.MemorySegment;

/** A read of a registered file into a registered buffer. */
final class FixedRead {
    private FixedRead() {}

    /**
     * Writes all 64 bytes of an entry, eight at a time, whatever they were.
     *
     * @param flags {@code IOSQE_*}
     * @param file index of the file
     * @param offset in the file, in bytes
     * @param buffer index of the buffer, one of the kernel's own, whose addresses begin at 0
     * @param start of the read's part of the buffer, in bytes
     */
    static void write(
            MemorySegment sqes,
            long at,
            int flags,
            int file,
            long offset,
            int buffer,
            int start,
            int length,
            long userData) {
        sqes.set(
                JAVA_LONG,
                at,
                IoUring.IORING_OP_READ_FIXED | ((long) flags << (8 * Sqe.FLAGS)) | ((long) file << (8 * Sqe.FD)));
        sqes.set(JAVA_LONG, at + Sqe.OFF, offset);
        sqes.set(JAVA_LONG, at + Sqe.ADDR, start);
        sqes.set(JAVA_LONG, at + Sqe.LEN, length);
        sqes.set(JAVA_LONG, at + Sqe.USER_DATA, userData);
        sqes.set(JAVA_LONG, at + Sqe.BUF_INDEX, buffer);
        sqes.set(JAVA_LONG, at + Sqe.CMD, 0);
        sqes.set(JAVA_LONG, at + Sqe.CMD + Long.BYTES, 0);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.MemorySegment;

/**
 * Accessors for {@code struct io_uring_cqe}, a completion queue entry, at a byte offset in {@link Ring#cqes()}.
 *
 * {@snippet lang="c" :
 * struct io_uring_cqe {          // Linux 7.2, linux/io_uring.h; 16 bytes
 *     __u64 user_data;           // @0
 *     __s32 res;                 // @8  result, or the negative error number
 *     __u32 flags;               // @12
 * };
 * }
 */
public final class Cqe {
    public static final int BYTES = 16;
    public static final int USER_DATA = 0;
    public static final int RES = 8;
    public static final int FLAGS = 12;

    private Cqe() {}

    public static long userData(MemorySegment cqes, long at) {
        return cqes.get(JAVA_LONG, at + USER_DATA);
    }

    public static int result(MemorySegment cqes, long at) {
        return cqes.get(JAVA_INT, at + RES);
    }
}

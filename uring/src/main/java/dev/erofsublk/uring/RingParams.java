// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.MemorySegment;

/**
 * {@code struct io_uring_params}: what is asked of {@code io_uring_setup} and what it answers.
 *
 * {@snippet lang="c" :
 * struct io_uring_params {                  // Linux 7.2, linux/io_uring.h; 120 bytes
 *     __u32 sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, resv[3];
 *     struct io_sqring_offsets sq_off;      // @40: head, tail, ring_mask, ring_entries, flags, dropped, array, ...
 *     struct io_cqring_offsets cq_off;      // @80: head, tail, ring_mask, ring_entries, overflow, cqes, flags, ...
 * };
 * }
 */
final class RingParams {
    static final int BYTES = 120;
    static final int SQ_ENTRIES = 0;
    static final int CQ_ENTRIES = 4;
    static final int FLAGS = 8;
    static final int FEATURES = 20;
    static final int SQ_OFF = 40;
    static final int CQ_OFF = 80;

    /** Offsets inside {@code io_sqring_offsets}. */
    static final int SQ_HEAD = 0;

    static final int SQ_TAIL = 4;
    static final int SQ_FLAGS = 16;
    static final int SQ_ARRAY = 24;

    /** Offsets inside {@code io_cqring_offsets}. */
    static final int CQ_HEAD = 0;

    static final int CQ_TAIL = 4;
    static final int CQ_CQES = 20;

    private RingParams() {}

    static int get(MemorySegment params, int offset) {
        return params.get(JAVA_INT, offset);
    }

    /** The offset, from the start of the mapped ring, of a field of the submission ring. */
    static int sq(MemorySegment params, int field) {
        return get(params, SQ_OFF + field);
    }

    /** The offset, from the start of the mapped ring, of a field of the completion ring. */
    static int cq(MemorySegment params, int field) {
        return get(params, CQ_OFF + field);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import org.junit.jupiter.api.Test;

class LayoutTest {
    private static final LayoutProbe PROBE = new LayoutProbe("linux/io_uring.h")
            .sizeOf("struct io_uring_sqe", Sqe.BYTES)
            .offset("struct io_uring_sqe", "opcode", Sqe.OPCODE)
            .offset("struct io_uring_sqe", "flags", Sqe.FLAGS)
            .offset("struct io_uring_sqe", "fd", Sqe.FD)
            .offset("struct io_uring_sqe", "off", Sqe.OFF)
            .offset("struct io_uring_sqe", "cmd_op", Sqe.CMD_OP)
            .offset("struct io_uring_sqe", "addr", Sqe.ADDR)
            .offset("struct io_uring_sqe", "len", Sqe.LEN)
            .offset("struct io_uring_sqe", "fadvise_advice", Sqe.ADVICE)
            .offset("struct io_uring_sqe", "user_data", Sqe.USER_DATA)
            .offset("struct io_uring_sqe", "buf_index", Sqe.BUF_INDEX)
            .offset("struct io_uring_sqe", "cmd", Sqe.CMD)
            .sizeOf("struct io_uring_cqe", Cqe.BYTES)
            .offset("struct io_uring_cqe", "user_data", Cqe.USER_DATA)
            .offset("struct io_uring_cqe", "res", Cqe.RES)
            .offset("struct io_uring_cqe", "flags", Cqe.FLAGS)
            .sizeOf("struct io_uring_params", RingParams.BYTES)
            .offset("struct io_uring_params", "sq_entries", RingParams.SQ_ENTRIES)
            .offset("struct io_uring_params", "cq_entries", RingParams.CQ_ENTRIES)
            .offset("struct io_uring_params", "flags", RingParams.FLAGS)
            .offset("struct io_uring_params", "features", RingParams.FEATURES)
            .offset("struct io_uring_params", "sq_off", RingParams.SQ_OFF)
            .offset("struct io_uring_params", "cq_off", RingParams.CQ_OFF)
            .offset("struct io_sqring_offsets", "head", RingParams.SQ_HEAD)
            .offset("struct io_sqring_offsets", "tail", RingParams.SQ_TAIL)
            .offset("struct io_sqring_offsets", "array", RingParams.SQ_ARRAY)
            .offset("struct io_cqring_offsets", "head", RingParams.CQ_HEAD)
            .offset("struct io_cqring_offsets", "tail", RingParams.CQ_TAIL)
            .offset("struct io_cqring_offsets", "cqes", RingParams.CQ_CQES)
            .constant("IORING_OP_NOP", IoUring.IORING_OP_NOP)
            .constant("IORING_OP_READ_FIXED", IoUring.IORING_OP_READ_FIXED)
            .constant("IORING_OP_READ", IoUring.IORING_OP_READ)
            .constant("IORING_OP_MADVISE", IoUring.IORING_OP_MADVISE)
            .constant("IORING_OP_URING_CMD", "IORING_SETUP_SQE128", IoUring.IORING_OP_URING_CMD)
            .macro("IOSQE_FIXED_FILE", IoUring.IOSQE_FIXED_FILE)
            .macro("IOSQE_IO_LINK", IoUring.IOSQE_IO_LINK)
            .macro("IOSQE_IO_HARDLINK", IoUring.IOSQE_IO_HARDLINK)
            .macro("IOSQE_CQE_SKIP_SUCCESS", IoUring.IOSQE_CQE_SKIP_SUCCESS)
            .macro("IORING_SETUP_SUBMIT_ALL", IoUring.IORING_SETUP_SUBMIT_ALL)
            .macro("IORING_SETUP_COOP_TASKRUN", IoUring.IORING_SETUP_COOP_TASKRUN)
            .macro("IORING_SETUP_SQE128", IoUring.IORING_SETUP_SQE128)
            .macro("IORING_SETUP_SINGLE_ISSUER", IoUring.IORING_SETUP_SINGLE_ISSUER)
            .macro("IORING_SETUP_DEFER_TASKRUN", IoUring.IORING_SETUP_DEFER_TASKRUN)
            .macro("IORING_SETUP_CQSIZE", IoUring.IORING_SETUP_CQSIZE)
            .macro("IORING_FEAT_SINGLE_MMAP", IoUring.IORING_FEAT_SINGLE_MMAP)
            .macro("IORING_ENTER_GETEVENTS", IoUring.IORING_ENTER_GETEVENTS)
            .macro("IORING_ENTER_REGISTERED_RING", IoUring.IORING_ENTER_REGISTERED_RING)
            .constant("IORING_REGISTER_FILES", IoUring.IORING_REGISTER_FILES)
            .constant("IORING_REGISTER_BUFFERS2", "IORING_RSRC_REGISTER_SPARSE", IoUring.IORING_REGISTER_BUFFERS2)
            .macro("IORING_RSRC_REGISTER_SPARSE", IoUring.IORING_RSRC_REGISTER_SPARSE)
            .constant("IORING_REGISTER_RING_FDS", "IORING_ENTER_REGISTERED_RING", IoUring.IORING_REGISTER_RING_FDS)
            .constant("IORING_UNREGISTER_RING_FDS", "IORING_ENTER_REGISTERED_RING", IoUring.IORING_UNREGISTER_RING_FDS)
            .macro("IORING_OFF_SQ_RING", IoUring.IORING_OFF_SQ_RING)
            .macro("IORING_OFF_SQES", IoUring.IORING_OFF_SQES);

    @Test
    void constantsAreThoseOfLinux72() throws Exception {
        PROBE.matchesGolden(LayoutTest.class, "/io_uring-7.2.tsv");
    }

    @Test
    void constantsAreThoseOfTheInstalledHeader() throws Exception {
        PROBE.matchesInstalledHeader();
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

/** Constants of {@code linux/io_uring.h} under the kernel's own names; checked against Linux 7.2 by LayoutTest. */
public final class IoUring {
    public static final int IORING_OP_NOP = 0;
    public static final int IORING_OP_READ_FIXED = 4;
    public static final int IORING_OP_POLL_ADD = 6;
    public static final int IORING_OP_READ = 22;
    public static final int IORING_OP_MADVISE = 25;
    public static final int IORING_OP_URING_CMD = 46;

    /** {@code fd} is the index of a registered file. */
    public static final int IOSQE_FIXED_FILE = 1;

    public static final int IOSQE_IO_LINK = 1 << 2;
    /** As a link, but the next entry follows whatever becomes of this one. */
    public static final int IOSQE_IO_HARDLINK = 1 << 3;

    public static final int IOSQE_CQE_SKIP_SUCCESS = 1 << 6;

    /** 5.18: go on submitting after an SQE that fails at once. */
    public static final int IORING_SETUP_SUBMIT_ALL = 1 << 7;
    /** 5.19: no interrupt to run completions; they run when the task enters the kernel next. */
    public static final int IORING_SETUP_COOP_TASKRUN = 1 << 8;
    /** 5.19: the submission ring tells whether there is work to run; see {@link Ring#isWorkDue}. */
    public static final int IORING_SETUP_TASKRUN_FLAG = 1 << 9;
    /** 5.19: 128-byte SQEs, which every ublk control command needs. */
    public static final int IORING_SETUP_SQE128 = 1 << 10;
    /** 6.0: only one task submits. */
    public static final int IORING_SETUP_SINGLE_ISSUER = 1 << 12;
    /** 6.1: completions run only inside {@code io_uring_enter} with GETEVENTS; needs SINGLE_ISSUER. */
    public static final int IORING_SETUP_DEFER_TASKRUN = 1 << 13;
    /** Size of the completion ring is given. */
    public static final int IORING_SETUP_CQSIZE = 1 << 3;

    static final int IORING_FEAT_SINGLE_MMAP = 1;
    /** Bit of the submission ring's flags: completions wait to be made. */
    static final int IORING_SQ_TASKRUN = 1 << 2;

    static final int IORING_ENTER_GETEVENTS = 1;
    static final int IORING_ENTER_REGISTERED_RING = 1 << 4;
    static final int IORING_REGISTER_FILES = 2;
    /** 5.13: a table of buffers, with {@link #IORING_RSRC_REGISTER_SPARSE} (5.19) of empty ones. */
    static final int IORING_REGISTER_BUFFERS2 = 15;

    static final int IORING_RSRC_REGISTER_SPARSE = 1;
    static final int IORING_REGISTER_RING_FDS = 20;
    static final int IORING_UNREGISTER_RING_FDS = 21;
    static final long IORING_OFF_SQ_RING = 0;
    static final long IORING_OFF_SQES = 0x10000000L;

    /** What a queue's ring asks for: one task submits and waits, and completions run only where it waits. */
    public static final int QUEUE_SETUP = IORING_SETUP_SINGLE_ISSUER
            | IORING_SETUP_DEFER_TASKRUN
            | IORING_SETUP_COOP_TASKRUN
            | IORING_SETUP_TASKRUN_FLAG
            | IORING_SETUP_SUBMIT_ALL;

    private IoUring() {}
}

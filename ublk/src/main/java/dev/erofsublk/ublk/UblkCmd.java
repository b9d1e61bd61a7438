// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

/**
 * Commands, sizes and limits of {@code linux/ublk_cmd.h} under the kernel's own names; checked against Linux 7.2 by
 * UblkLayoutTest.
 *
 * <p>Each command has two encodings: the bare number, which is all that kernels before 6.4 know, and the ioctl one
 * ({@code UBLK_F_CMD_IOCTL_ENCODE}), which is all that a kernel without {@code CONFIG_BLKDEV_UBLK_LEGACY_OPCODES}
 * accepts.
 */
final class UblkCmd {
    static final int CTRL_CMD_BYTES = 32;
    static final int IO_CMD_BYTES = 16;
    static final int IO_DESC_BYTES = 24;

    // enum of struct ublksrv_ctrl_cmd commands
    static final int GET_QUEUE_AFFINITY = ior(0x01, CTRL_CMD_BYTES);
    static final int GET_DEV_INFO = ior(0x02, CTRL_CMD_BYTES);
    static final int ADD_DEV = iowr(0x04, CTRL_CMD_BYTES);
    static final int DEL_DEV = iowr(0x05, CTRL_CMD_BYTES);
    static final int START_DEV = iowr(0x06, CTRL_CMD_BYTES);
    static final int STOP_DEV = iowr(0x07, CTRL_CMD_BYTES);
    static final int SET_PARAMS = iowr(0x08, CTRL_CMD_BYTES);
    static final int GET_PARAMS = ior(0x09, CTRL_CMD_BYTES);
    static final int START_USER_RECOVERY = iowr(0x10, CTRL_CMD_BYTES);
    static final int END_USER_RECOVERY = iowr(0x11, CTRL_CMD_BYTES);
    static final int GET_DEV_INFO2 = ior(0x12, CTRL_CMD_BYTES);
    static final int GET_FEATURES = ior(0x13, CTRL_CMD_BYTES);
    static final int DEL_DEV_ASYNC = ior(0x14, CTRL_CMD_BYTES);
    static final int QUIESCE_DEV = iowr(0x16, CTRL_CMD_BYTES);
    static final int TRY_STOP_DEV = iowr(0x17, CTRL_CMD_BYTES);
    /** The last command that has a bare number as well. */
    private static final int LAST_LEGACY_NUMBER = 0x12;

    // commands of /dev/ublkcN
    static final int IO_FETCH_REQ = iowr(0x20, IO_CMD_BYTES);
    static final int IO_COMMIT_AND_FETCH_REQ = iowr(0x21, IO_CMD_BYTES);

    static final int IO_NEED_GET_DATA = iowr(0x22, IO_CMD_BYTES);

    static final int IO_RES_OK = 0;
    static final int IO_RES_NEED_GET_DATA = 1;
    /** -ENODEV: the device stops, and this tag is not to be fetched again. */
    static final int IO_RES_ABORT = -19;

    static final int MAX_QUEUE_DEPTH = 4096;
    static final int MAX_NR_QUEUES = 4096;
    static final int FEATURES_LEN = 8;

    static final int IO_OP_READ = 0;
    static final int IO_OP_FLUSH = 2;

    private UblkCmd() {}

    // asm-generic/ioctl.h: direction << 30 | size << 16 | type << 8 | number
    private static int ior(int number, int size) {
        return 2 << 30 | size << 16 | 'u' << 8 | number;
    }

    private static int iowr(int number, int size) {
        return 3 << 30 | size << 16 | 'u' << 8 | number;
    }

    static int number(int command) {
        return command & 0xff;
    }

    static boolean hasLegacyEncoding(int command) {
        return number(command) <= LAST_LEGACY_NUMBER;
    }

    static String name(int command) {
        return switch (number(command)) {
            case 0x01 -> "UBLK_CMD_GET_QUEUE_AFFINITY";
            case 0x02 -> "UBLK_CMD_GET_DEV_INFO";
            case 0x04 -> "UBLK_CMD_ADD_DEV";
            case 0x05 -> "UBLK_CMD_DEL_DEV";
            case 0x06 -> "UBLK_CMD_START_DEV";
            case 0x07 -> "UBLK_CMD_STOP_DEV";
            case 0x08 -> "UBLK_CMD_SET_PARAMS";
            case 0x09 -> "UBLK_CMD_GET_PARAMS";
            case 0x10 -> "UBLK_CMD_START_USER_RECOVERY";
            case 0x11 -> "UBLK_CMD_END_USER_RECOVERY";
            case 0x12 -> "UBLK_CMD_GET_DEV_INFO2";
            case 0x13 -> "UBLK_U_CMD_GET_FEATURES";
            case 0x14 -> "UBLK_U_CMD_DEL_DEV_ASYNC";
            case 0x16 -> "UBLK_U_CMD_QUIESCE_DEV";
            case 0x17 -> "UBLK_U_CMD_TRY_STOP_DEV";
            default -> "ublk command 0x%x".formatted(number(command));
        };
    }
}

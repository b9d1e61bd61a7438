// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.uring.LayoutProbe;
import org.junit.jupiter.api.Test;

class UblkLayoutTest {
    private static final LayoutProbe PROBE = probe();

    private static LayoutProbe probe() {
        LayoutProbe probe = new LayoutProbe("linux/ublk_cmd.h")
                .sizeOf("struct ublksrv_ctrl_cmd", UblkCmd.CTRL_CMD_BYTES)
                .offset("struct ublksrv_ctrl_cmd", "dev_id", ControlDevice.DEV_ID)
                .offset("struct ublksrv_ctrl_cmd", "queue_id", ControlDevice.QUEUE_ID)
                .offset("struct ublksrv_ctrl_cmd", "len", ControlDevice.LEN)
                .offset("struct ublksrv_ctrl_cmd", "addr", ControlDevice.ADDR)
                .offset("struct ublksrv_ctrl_cmd", "data", ControlDevice.DATA)
                .sizeOf("struct ublksrv_ctrl_dev_info", DeviceInfo.BYTES)
                .offset("struct ublksrv_ctrl_dev_info", "nr_hw_queues", DeviceInfo.NR_HW_QUEUES)
                .offset("struct ublksrv_ctrl_dev_info", "queue_depth", DeviceInfo.QUEUE_DEPTH)
                .offset("struct ublksrv_ctrl_dev_info", "state", DeviceInfo.STATE)
                .offset("struct ublksrv_ctrl_dev_info", "max_io_buf_bytes", DeviceInfo.MAX_IO_BUF_BYTES)
                .offset("struct ublksrv_ctrl_dev_info", "dev_id", DeviceInfo.DEV_ID)
                .offset("struct ublksrv_ctrl_dev_info", "ublksrv_pid", DeviceInfo.UBLKSRV_PID)
                .offset("struct ublksrv_ctrl_dev_info", "flags", DeviceInfo.FLAGS)
                .sizeOf("struct ublksrv_io_desc", UblkCmd.IO_DESC_BYTES)
                .offset("struct ublksrv_io_desc", "op_flags", IoDesc.OP_FLAGS)
                .offset("struct ublksrv_io_desc", "nr_sectors", IoDesc.NR_SECTORS)
                .offset("struct ublksrv_io_desc", "start_sector", IoDesc.START_SECTOR)
                .sizeOf("struct ublksrv_io_cmd", UblkCmd.IO_CMD_BYTES)
                .offset("struct ublksrv_io_cmd", "q_id", IoCmd.Q_ID)
                .offset("struct ublksrv_io_cmd", "tag", IoCmd.TAG)
                .offset("struct ublksrv_io_cmd", "result", IoCmd.RESULT)
                .offset("struct ublksrv_io_cmd", "addr", IoCmd.ADDR)
                .sizeOf("struct ublk_param_basic", Parameters.BASIC_BYTES)
                .offset("struct ublk_param_basic", "attrs", Parameters.BASIC_ATTRS)
                .offset("struct ublk_param_basic", "logical_bs_shift", Parameters.BASIC_LOGICAL_BS_SHIFT)
                .offset("struct ublk_param_basic", "physical_bs_shift", Parameters.BASIC_PHYSICAL_BS_SHIFT)
                .offset("struct ublk_param_basic", "io_opt_shift", Parameters.BASIC_IO_OPT_SHIFT)
                .offset("struct ublk_param_basic", "io_min_shift", Parameters.BASIC_IO_MIN_SHIFT)
                .offset("struct ublk_param_basic", "max_sectors", Parameters.BASIC_MAX_SECTORS)
                .offset("struct ublk_param_basic", "dev_sectors", Parameters.BASIC_DEV_SECTORS)
                .offset("struct ublk_params", "len", Parameters.LEN)
                .offset("struct ublk_params", "types", Parameters.TYPES)
                .offset("struct ublk_params", "basic", Parameters.BASIC)
                .macro("UBLK_PARAM_TYPE_BASIC", Parameters.TYPE_BASIC)
                .macro("UBLK_ATTR_READ_ONLY", Parameters.ATTR_READ_ONLY)
                .macro("UBLK_MAX_QUEUE_DEPTH", UblkCmd.MAX_QUEUE_DEPTH)
                .macro("UBLK_MAX_NR_QUEUES", UblkCmd.MAX_NR_QUEUES)
                .macro("UBLK_FEATURES_LEN", UblkCmd.FEATURES_LEN)
                .macro("UBLK_IO_RES_OK", UblkCmd.IO_RES_OK)
                .macro("UBLK_IO_RES_NEED_GET_DATA", UblkCmd.IO_RES_NEED_GET_DATA)
                .macro("UBLK_U_IO_NEED_GET_DATA", unsigned(UblkCmd.IO_NEED_GET_DATA))
                .macro("UBLK_IO_OP_READ", UblkCmd.IO_OP_READ)
                .macro("UBLK_IO_OP_FLUSH", UblkCmd.IO_OP_FLUSH)
                .macro("UBLK_S_DEV_DEAD", DeviceState.DEAD.ordinal())
                .macro("UBLK_S_DEV_LIVE", DeviceState.LIVE.ordinal())
                .macro("UBLK_S_DEV_QUIESCED", DeviceState.QUIESCED.ordinal())
                .macro("UBLK_S_DEV_FAIL_IO", DeviceState.FAIL_IO.ordinal())
                .macro("UBLK_U_CMD_GET_QUEUE_AFFINITY", unsigned(UblkCmd.GET_QUEUE_AFFINITY))
                .macro("UBLK_U_CMD_GET_DEV_INFO", unsigned(UblkCmd.GET_DEV_INFO))
                .macro("UBLK_U_CMD_ADD_DEV", unsigned(UblkCmd.ADD_DEV))
                .macro("UBLK_U_CMD_DEL_DEV", unsigned(UblkCmd.DEL_DEV))
                .macro("UBLK_U_CMD_START_DEV", unsigned(UblkCmd.START_DEV))
                .macro("UBLK_U_CMD_STOP_DEV", unsigned(UblkCmd.STOP_DEV))
                .macro("UBLK_U_CMD_SET_PARAMS", unsigned(UblkCmd.SET_PARAMS))
                .macro("UBLK_U_CMD_GET_PARAMS", unsigned(UblkCmd.GET_PARAMS))
                .macro("UBLK_U_CMD_START_USER_RECOVERY", unsigned(UblkCmd.START_USER_RECOVERY))
                .macro("UBLK_U_CMD_END_USER_RECOVERY", unsigned(UblkCmd.END_USER_RECOVERY))
                .macro("UBLK_U_CMD_GET_DEV_INFO2", unsigned(UblkCmd.GET_DEV_INFO2))
                .macro("UBLK_U_CMD_GET_FEATURES", unsigned(UblkCmd.GET_FEATURES))
                .macro("UBLK_U_CMD_DEL_DEV_ASYNC", unsigned(UblkCmd.DEL_DEV_ASYNC))
                .macro("UBLK_U_CMD_QUIESCE_DEV", unsigned(UblkCmd.QUIESCE_DEV))
                .macro("UBLK_U_CMD_TRY_STOP_DEV", unsigned(UblkCmd.TRY_STOP_DEV))
                .macro("UBLK_U_IO_FETCH_REQ", unsigned(UblkCmd.IO_FETCH_REQ))
                .macro("UBLK_U_IO_COMMIT_AND_FETCH_REQ", unsigned(UblkCmd.IO_COMMIT_AND_FETCH_REQ))
                .macro("UBLK_CMD_GET_QUEUE_AFFINITY", UblkCmd.number(UblkCmd.GET_QUEUE_AFFINITY))
                .macro("UBLK_CMD_GET_DEV_INFO", UblkCmd.number(UblkCmd.GET_DEV_INFO))
                .macro("UBLK_CMD_ADD_DEV", UblkCmd.number(UblkCmd.ADD_DEV))
                .macro("UBLK_CMD_DEL_DEV", UblkCmd.number(UblkCmd.DEL_DEV))
                .macro("UBLK_CMD_START_DEV", UblkCmd.number(UblkCmd.START_DEV))
                .macro("UBLK_CMD_STOP_DEV", UblkCmd.number(UblkCmd.STOP_DEV))
                .macro("UBLK_CMD_SET_PARAMS", UblkCmd.number(UblkCmd.SET_PARAMS))
                .macro("UBLK_CMD_GET_PARAMS", UblkCmd.number(UblkCmd.GET_PARAMS))
                .macro("UBLK_IO_FETCH_REQ", UblkCmd.number(UblkCmd.IO_FETCH_REQ))
                .macro("UBLK_IO_COMMIT_AND_FETCH_REQ", UblkCmd.number(UblkCmd.IO_COMMIT_AND_FETCH_REQ));
        for (Feature feature : Feature.values()) {
            probe.macro("UBLK_F_" + feature, feature.bit());
        }
        return probe.macro("UBLK_IO_RES_ABORT", UblkCmd.IO_RES_ABORT);
    }

    private static long unsigned(int command) {
        return Integer.toUnsignedLong(command);
    }

    @Test
    void constantsAreThoseOfLinux72() throws Exception {
        PROBE.matchesGolden(UblkLayoutTest.class, "/ublk_cmd-7.2.tsv");
    }

    @Test
    void constantsAreThoseOfTheInstalledHeader() throws Exception {
        PROBE.matchesInstalledHeader();
    }
}

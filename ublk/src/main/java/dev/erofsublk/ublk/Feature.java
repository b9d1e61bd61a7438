// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import java.util.EnumSet;
import java.util.Set;

/** The {@code UBLK_F_*} flags of {@code linux/ublk_cmd.h}, in the order of their bits. */
public enum Feature {
    SUPPORT_ZERO_COPY(0),
    URING_CMD_COMP_IN_TASK(1),
    NEED_GET_DATA(2),
    USER_RECOVERY(3),
    USER_RECOVERY_REISSUE(4),
    UNPRIVILEGED_DEV(5),
    CMD_IOCTL_ENCODE(6),
    USER_COPY(7),
    ZONED(8),
    USER_RECOVERY_FAIL_IO(9),
    UPDATE_SIZE(10),
    AUTO_BUF_REG(11),
    QUIESCE(12),
    PER_IO_DAEMON(13),
    BUF_REG_OFF_DAEMON(14),
    BATCH_IO(15),
    INTEGRITY(16),
    SAFE_STOP_DEV(17),
    NO_AUTO_PART_SCAN(18),
    SHMEM_ZC(19);

    private final int number;

    Feature(int number) {
        this.number = number;
    }

    /** The flag's bit in {@code ublksrv_ctrl_dev_info.flags}. */
    public long bit() {
        return 1L << number;
    }

    public boolean in(long flags) {
        return (flags & bit()) != 0;
    }

    /** The known features of a mask. */
    public static Set<Feature> of(long flags) {
        Set<Feature> features = EnumSet.noneOf(Feature.class);
        for (Feature feature : values()) {
            if (feature.in(flags)) {
                features.add(feature);
            }
        }
        return features;
    }

    /** The bits of a mask that no feature here stands for: those of a kernel newer than this program. */
    public static long unknown(long flags) {
        return flags & -(1L << values().length);
    }
}

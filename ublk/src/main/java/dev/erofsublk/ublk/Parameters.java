// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.MemorySegment;

/**
 * The limits of a read-only device.
 *
 * {@snippet lang="c" :
 * struct ublk_params {              // Linux 7.2, linux/ublk_cmd.h
 *     __u32 len;                    // @0   bytes of this struct that are meant
 *     __u32 types;                  // @4   which of the parts are; BASIC is 1
 *     struct ublk_param_basic {     // @8
 *         __u32 attrs;              // @0   READ_ONLY is 1
 *         __u8  logical_bs_shift, physical_bs_shift, io_opt_shift, io_min_shift;   // @4 to @7
 *         __u32 max_sectors;        // @8
 *         __u32 chunk_sectors;      // @12
 *         __u64 dev_sectors;        // @16
 *         __u64 virt_boundary_mask; // @24
 *     } basic;
 *     ...
 * };
 * }
 *
 * @param sectors the device's size in units of 512 bytes
 * @param logicalShift log2 of the smallest read: 9 to 12
 * @param physicalShift log2 of the unit that reads best, at least {@code logicalShift}
 * @param optimalShift log2 of the read that pays best. The kernel reads ahead twice as much, and EROFS inherits that
 *     (block/blk-settings.c; fs/super.c, setup_bdev_super)
 * @param maxSectors the longest request in units of 512 bytes: at least a page, at most the device's buffer size
 */
public record Parameters(
        boolean readOnly, long sectors, int logicalShift, int physicalShift, int optimalShift, int maxSectors) {
    static final int LEN = 0;
    static final int TYPES = 4;
    static final int BASIC = 8;
    static final int BASIC_ATTRS = 0;
    static final int BASIC_LOGICAL_BS_SHIFT = 4;
    static final int BASIC_PHYSICAL_BS_SHIFT = 5;
    static final int BASIC_IO_OPT_SHIFT = 6;
    static final int BASIC_IO_MIN_SHIFT = 7;
    static final int BASIC_MAX_SECTORS = 8;
    static final int BASIC_DEV_SECTORS = 16;
    static final int BASIC_BYTES = 32;
    static final int BYTES = BASIC + BASIC_BYTES;

    static final int TYPE_BASIC = 1;
    static final int ATTR_READ_ONLY = 1;

    static Parameters read(MemorySegment params) {
        MemorySegment basic = params.asSlice(BASIC, BASIC_BYTES);
        return new Parameters(
                (basic.get(JAVA_INT, BASIC_ATTRS) & ATTR_READ_ONLY) != 0,
                basic.get(JAVA_LONG, BASIC_DEV_SECTORS),
                basic.get(JAVA_BYTE, BASIC_LOGICAL_BS_SHIFT),
                basic.get(JAVA_BYTE, BASIC_PHYSICAL_BS_SHIFT),
                basic.get(JAVA_BYTE, BASIC_IO_OPT_SHIFT),
                basic.get(JAVA_INT, BASIC_MAX_SECTORS));
    }

    void write(MemorySegment params) {
        params.fill((byte) 0);
        params.set(JAVA_INT, LEN, BYTES);
        params.set(JAVA_INT, TYPES, TYPE_BASIC);
        MemorySegment basic = params.asSlice(BASIC, BASIC_BYTES);
        basic.set(JAVA_INT, BASIC_ATTRS, readOnly ? ATTR_READ_ONLY : 0);
        basic.set(JAVA_BYTE, BASIC_LOGICAL_BS_SHIFT, (byte) logicalShift);
        basic.set(JAVA_BYTE, BASIC_PHYSICAL_BS_SHIFT, (byte) physicalShift);
        basic.set(JAVA_BYTE, BASIC_IO_OPT_SHIFT, (byte) optimalShift);
        basic.set(JAVA_BYTE, BASIC_IO_MIN_SHIFT, (byte) physicalShift);
        basic.set(JAVA_INT, BASIC_MAX_SECTORS, maxSectors);
        basic.set(JAVA_LONG, BASIC_DEV_SECTORS, sectors);
    }
}

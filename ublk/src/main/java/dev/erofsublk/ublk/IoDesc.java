// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.MemorySegment;

/**
 * The descriptor of the request that a tag carries, in the area that the driver shares with its server.
 *
 * {@snippet lang="c" :
 * struct ublksrv_io_desc {          // Linux 7.2, linux/ublk_cmd.h; 24 bytes
 *     __u32 op_flags;               // @0   operation in bits 0 to 7
 *     __u32 nr_sectors;             // @4
 *     __u64 start_sector;           // @8
 *     __u64 addr;                   // @16
 * };
 * }
 */
final class IoDesc {
    static final int OP_FLAGS = 0;
    static final int NR_SECTORS = 4;
    static final int START_SECTOR = 8;

    private IoDesc() {}

    static int operation(MemorySegment descriptors, long at) {
        return descriptors.get(JAVA_INT, at + OP_FLAGS) & 0xff;
    }

    static int sectors(MemorySegment descriptors, long at) {
        return descriptors.get(JAVA_INT, at + NR_SECTORS);
    }

    static long startSector(MemorySegment descriptors, long at) {
        return descriptors.get(JAVA_LONG, at + START_SECTOR);
    }
}

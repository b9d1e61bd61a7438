// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import java.util.List;

/**
 * The text that says what a virtual disk consists of.
 *
 * @param createType one of {@link CreateTypes}
 * @param cid content id: changes whenever the content does
 * @param parentCid the {@code cid} that the parent had, or {@link #NO_PARENT}
 * @param parentHint the parent's file name; empty if there is none
 * @param extents in the order of the disk; at least one
 */
record Descriptor(String createType, int cid, int parentCid, String parentHint, List<ExtentLine> extents) {
    static final int NO_PARENT = 0xffffffff;

    /** What the extent's bytes are stored as. */
    enum Type {
        /** As they are, from an offset. */
        FLAT,
        /** As they are, from the file's start. */
        VMFS,
        /** In grains: {@code KDMV} or {@code COWD}, which the file's magic decides. */
        SPARSE,
        /** In grains, as {@link #SPARSE}. */
        VMFSSPARSE,
        /** In grains of 4 KiB with tables of 64 bits. */
        SESPARSE,
        /** Not at all. */
        ZERO
    }

    /**
     * One extent.
     *
     * @param line its number in the descriptor, from 1
     * @param access {@code RW} or {@code RDONLY}
     * @param sectors 1 to {@link Limits#DEVICE_SECTORS}
     * @param file its name as written; empty for {@link Type#ZERO}
     * @param offset the sector of the file at which it starts
     */
    record ExtentLine(int line, String access, long sectors, Type type, String file, long offset) {}

    boolean hasParent() {
        return parentCid != NO_PARENT;
    }

    static String hex(int cid) {
        return "%08x".formatted(cid);
    }
}

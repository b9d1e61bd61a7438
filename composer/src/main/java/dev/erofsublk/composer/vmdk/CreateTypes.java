// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import java.util.Set;

/** The values of {@code createType}, by what they mean for a reader. */
final class CreateTypes {
    /** A descriptor of its own, and extents in files. */
    static final Set<String> IN_FILES = Set.of(
            "monolithicFlat",
            "twoGbMaxExtentFlat",
            "twoGbMaxExtentSparse",
            "2GbMaxExtentFlat",
            "2GbMaxExtentSparse",
            "vmfs",
            "vmfsThin",
            "vmfsPreallocated",
            "vmfsEagerZeroedThick",
            "vmfsSparse",
            "seSparse",
            "custom");

    /** The descriptor is inside the one extent. */
    static final Set<String> IN_ONE_FILE = Set.of("monolithicSparse", "streamOptimized");

    private CreateTypes() {}
}

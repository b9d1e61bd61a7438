// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import java.util.ArrayList;
import java.util.List;

/** The feature bits of a blob, as in the blob table and in the header of its chunk table (storage/src/device.rs). */
enum Feature {
    ALIGNED(0x1),
    INLINED_FS_META(0x2),
    CHUNK_INFO_V2(0x4),
    ZRAN(0x8),
    SEPARATE(0x10),
    INLINED_CHUNK_DIGEST(0x20),
    TARFS(0x40),
    BATCH(0x80),
    ENCRYPTED(0x100),
    CHUNKDICT_GENERATED(0x200),
    SEPARATED_WITH_PREFETCH(0x400),
    EXTERNAL(0x800),
    HAS_TAR_HEADER(0x1000_0000),
    HAS_TOC(0x2000_0000),
    CAP_TAR_TOC(0x4000_0000);

    /** Bits that change how a blob is read: one of these that is not known must be refused. */
    static final int INCOMPATIBLE = 0x8000_ffff;

    /** Bits on which blob table and chunk table header must agree, for they decide how the table is read. */
    static final int LAYOUT = CHUNK_INFO_V2.bit | ZRAN.bit | SEPARATE.bit | TARFS.bit | BATCH.bit | ENCRYPTED.bit;

    final int bit;

    Feature(int bit) {
        this.bit = bit;
    }

    boolean in(int features) {
        return (features & bit) != 0;
    }

    /** The bits of {@code features} that no reader may ignore and this one does not know. */
    static int unknown(int features) {
        int unknown = features & INCOMPATIBLE;
        for (Feature feature : values()) {
            unknown &= ~feature.bit;
        }
        return unknown;
    }

    static List<String> names(int features) {
        List<String> names = new ArrayList<>();
        for (Feature feature : values()) {
            if (feature.in(features)) {
                names.add(feature.name());
            }
        }
        return names;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import java.util.Locale;
import java.util.Optional;

/** How the bytes of a read get into it. */
public enum DataPath {
    /** Whatever is the fastest where it was measured, which is {@link #DIRECT} (docs/data-paths.md). */
    AUTO,
    /** The kernel copies them from the mapped image. */
    DIRECT,
    /** The kernel reads files into the request itself (Linux 6.16; not for an unprivileged device). */
    ZERO_COPY;

    /** The features that {@link #ZERO_COPY} takes. */
    private static final long ZERO_COPY_FLAGS = Feature.SUPPORT_ZERO_COPY.bit() | Feature.AUTO_BUF_REG.bit();

    /** The path that {@link #toString} calls {@code name}. */
    public static Optional<DataPath> named(String name) {
        for (DataPath path : values()) {
            if (path.toString().equals(name)) {
                return Optional.of(path);
            }
        }
        return Optional.empty();
    }

    /** The path of a device with these features. */
    static DataPath of(long flags) {
        return Feature.AUTO_BUF_REG.in(flags) ? ZERO_COPY : DIRECT;
    }

    /** The features to ask for. */
    long flags() {
        return this == ZERO_COPY ? ZERO_COPY_FLAGS : 0;
    }

    /** Whether a kernel with these features has it. */
    boolean isOffered(long features) {
        return (features & flags()) == flags();
    }

    /** As options, JSON and people spell it. */
    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT).replace('_', '-');
    }
}

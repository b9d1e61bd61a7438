// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import java.util.Locale;

/** The kernel's drivers through which an image can become a block device. */
public enum Backend {
    UBLK("/dev/ublkb"),
    NBD("/dev/nbd");

    private final String prefix;

    Backend(String prefix) {
        this.prefix = prefix;
    }

    /** The node of device {@code number}. */
    String path(int number) {
        return prefix + number;
    }

    /** As options, JSON and people spell it. */
    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT);
    }

    static Backend named(String name) throws DaemonException {
        for (Backend backend : values()) {
            if (backend.toString().equals(name)) {
                return backend;
            }
        }
        throw new DaemonException("field \"backend\" is " + name + ", expected ublk or nbd");
    }
}

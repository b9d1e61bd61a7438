// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import java.lang.foreign.MemorySegment;

/** Nothing but zeros: the holes of a device. */
public enum Zeros implements Source {
    INSTANCE;

    @Override
    public long size() {
        return Long.MAX_VALUE;
    }

    @Override
    public void read(long offset, MemorySegment target) {
        target.fill((byte) 0);
    }

    @Override
    public void close() {}
}

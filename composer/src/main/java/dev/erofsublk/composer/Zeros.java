// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import java.lang.foreign.MemorySegment;

/** Nothing but zeros: the holes of a device. */
public final class Zeros implements Source {
    public static final Zeros INSTANCE = new Zeros();

    private Zeros() {}

    @Override
    public String name() {
        return "zeros";
    }

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

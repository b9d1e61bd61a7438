// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;

/**
 * One bit for each {@link #UNIT} bytes of a device: these have been brought in once, so that sending them is not expected
 * to wait.
 *
 * <p>Only a hint, and never taken back: pages that the kernel drops under memory pressure come back by a fault while
 * they are sent. Thread-safe; a bit that another thread does not see yet costs one superfluous {@code madvise}.
 */
final class Residency {
    /** Bytes of the device that share a bit. */
    static final int UNIT = 64 << 10;

    private static final int SHIFT = Integer.numberOfTrailingZeros(UNIT);
    private static final VarHandle WORD = MethodHandles.arrayElementVarHandle(long[].class);

    private final long[] bits;

    Residency(long size) {
        bits = new long[Math.toIntExact((size >>> SHIFT) / Long.SIZE + 1)];
    }

    /** Whether all of these bytes have been brought in; {@code length} is positive. */
    boolean has(long offset, long length) {
        long last = (offset + length - 1) >>> SHIFT;
        for (long unit = offset >>> SHIFT; unit <= last; unit++) {
            if (((long) WORD.getOpaque(bits, (int) (unit / Long.SIZE)) >>> unit & 1) == 0) {
                return false;
            }
        }
        return true;
    }

    /** How many units have been brought in. */
    long count() {
        long count = 0;
        for (int i = 0; i < bits.length; i++) {
            count += Long.bitCount((long) WORD.getOpaque(bits, i));
        }
        return count;
    }

    /** Notes that the units which lie within these bytes, or end with the device there, have been brought in. */
    void add(long offset, long length) {
        long end = (offset + length + UNIT - 1) >>> SHIFT;
        for (long unit = offset >>> SHIFT; unit < end; unit++) {
            WORD.getAndBitwiseOr(bits, (int) (unit / Long.SIZE), 1L << unit);
        }
    }
}

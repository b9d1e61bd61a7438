// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.Arrays;

/**
 * Which parts of an {@link AddressSpace} can be copied without waiting, being mapped already: one bit for each unit of
 * {@value #UNIT_BYTES} bytes. A server that finds a bit clear has the bytes brought in elsewhere and goes on with other
 * requests meanwhile.
 *
 * <p>Bits are only ever set. One that is set is a promise that was true once: the kernel may evict pages later, and
 * copying them then waits for the disk, as it would without this class.
 *
 * <p>Units are counted along {@link AddressSpace#position positions}. Thread-safe: setting is atomic, and looking needs no
 * order, because a bit seen late only costs a second look.
 */
public final class Residency {
    /** Bytes of a unit: what one page fault maps around it at most (mm/memory.c, fault_around_bytes). */
    public static final int UNIT_BYTES = 1 << Residency.UNIT_SHIFT;

    static final int UNIT_SHIFT = 16;
    private static final VarHandle WORD = MethodHandles.arrayElementVarHandle(long[].class);
    private static final VarHandle MISSING;

    static {
        try {
            MISSING = MethodHandles.lookup().findVarHandle(Residency.class, "missing", long.class);
        } catch (ReflectiveOperationException impossible) {
            throw new ExceptionInInitializerError(impossible);
        }
    }

    private final long[] words;
    private final long units;
    private volatile long missing;

    /** {@code bytes} of positions, none of them resident. */
    Residency(long bytes) {
        units = unitsUp(bytes);
        words = new long[Math.toIntExact((units + 63) >>> 6)];
        missing = units;
    }

    static long unitsUp(long bytes) {
        return (bytes + UNIT_BYTES - 1) >>> UNIT_SHIFT;
    }

    /** How many units there are. */
    public long units() {
        return units;
    }

    /** How many of them are not resident. */
    public long missing() {
        return missing;
    }

    /** Whether every unit is resident; from then on {@link #covers} is always true and need not be asked. */
    public boolean isComplete() {
        return missing == 0;
    }

    /** Whether every unit of {@code [position, position + bytes)} is resident; {@code bytes} is at least 1. */
    public boolean covers(long position, long bytes) {
        long unit = position >>> UNIT_SHIFT;
        long last = (position + bytes - 1) >>> UNIT_SHIFT;
        while (isResident(unit)) {
            if (unit++ == last) {
                return true;
            }
        }
        return false;
    }

    /** Whether unit {@code unit} is resident. */
    public boolean isResident(long unit) {
        // Opaque: the loop of a server must not keep an old word in a register for ever.
        return ((long) WORD.getOpaque(words, (int) (unit >>> 6)) >>> unit & 1) != 0;
    }

    /** From now on unit {@code unit} is resident. */
    public void set(long unit) {
        long bit = 1L << unit;
        if (((long) WORD.getAndBitwiseOr(words, (int) (unit >>> 6), bit) & bit) == 0) {
            MISSING.getAndAdd(this, -1L);
        }
    }

    /** All of them at once; before anyone else looks. */
    void setAll() {
        Arrays.fill(words, -1);
        missing = 0;
    }

    /** Takes one back; before anyone else looks. */
    void clear(long unit) {
        long bit = 1L << unit;
        int word = (int) (unit >>> 6);
        if ((words[word] & bit) != 0) {
            words[word] &= ~bit;
            MISSING.getAndAdd(this, 1L);
        }
    }
}

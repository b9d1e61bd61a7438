// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Source;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HexFormat;

/**
 * Remembers where compressed grains are, 8 bytes each, and lays them afterwards: grain {@code i} of those that exist
 * is bytes {@code [i, i + 1) * grainBytes} of the decoded source, so that the source is as large as what is stored and
 * not as the disk.
 */
final class CompressedGrains implements Grains {
    private final long grains;
    private int[] sectors = new int[16];
    private int[] numbers = new int[16];
    private int count;
    private long[] zeroRuns = new long[8]; // pairs: first grain, end
    private int zeroCount;
    private long next;

    /** @param grains of the extent, at most 2^32 */
    CompressedGrains(long grains) {
        this.grains = grains;
    }

    /** Grains that are stored. */
    int count() {
        return count;
    }

    /** The sector of the file at which stored grain {@code index} starts. */
    long sector(int index) {
        return Integer.toUnsignedLong(sectors[index]);
    }

    /** Which grain of the extent stored grain {@code index} is. */
    long number(int index) {
        return Integer.toUnsignedLong(numbers[index]);
    }

    /** A digest of where all of them are. */
    String digest(MessageDigest sha256) {
        ByteBuffer place = ByteBuffer.allocate(2 * Integer.BYTES);
        for (int i = 0; i < count; i++) {
            sha256.update(place.putInt(0, sectors[i]).putInt(4, numbers[i]).array());
        }
        return HexFormat.of().formatHex(sha256.digest());
    }

    @Override
    public void absent(long run) {
        next += run;
    }

    @Override
    public void zero(long run) {
        if (zeroCount == zeroRuns.length) {
            zeroRuns = Arrays.copyOf(zeroRuns, zeroCount * 2);
        }
        zeroRuns[zeroCount++] = next;
        next += run;
        zeroRuns[zeroCount++] = next;
    }

    @Override
    public void stored(long sector) {
        if (count == sectors.length) {
            sectors = Arrays.copyOf(sectors, count * 2);
            numbers = Arrays.copyOf(numbers, count * 2);
        }
        sectors[count] = (int) sector;
        numbers[count++] = (int) next++;
    }

    /** Lays all grains of an extent of {@code bytes} bytes. */
    void lay(Overlay out, Source source, long grainBytes, long bytes) throws ImageException {
        long start = out.size();
        int stored = 0;
        int zero = 0;
        for (long grain = 0; grain < grains; ) {
            long storedAt = stored < count ? number(stored) : grains;
            long zeroAt = zero < zeroCount ? zeroRuns[zero] : grains;
            long laid = out.size() - start;
            if (storedAt == grain) {
                out.data(Math.min(grainBytes, bytes - laid), source, stored * grainBytes);
                stored++;
                grain++;
            } else if (zeroAt == grain) {
                grain = zeroRuns[zero + 1];
                out.zeros(Math.min(grain * grainBytes, bytes) - laid);
                zero += 2;
            } else {
                grain = Math.min(storedAt, zeroAt);
                out.inherit(Math.min(grain * grainBytes, bytes) - laid);
            }
        }
    }
}

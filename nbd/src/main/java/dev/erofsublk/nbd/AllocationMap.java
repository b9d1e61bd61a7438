// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Zeros;
import java.util.Arrays;

/**
 * Which ranges of a device are holes: what the metadata context {@code base:allocation} tells, and what a read need not
 * send.
 *
 * <p>Neighbours of the same kind are one range, so kinds alternate and 8 bytes a range are enough. Immutable.
 */
final class AllocationMap {
    private final long[] ends; // ends[i] is the end of range i and the start of range i + 1
    private final int holeParity; // ranges with this lowest bit are holes

    AllocationMap(FlatImage image) {
        long[] found = new long[16];
        int count = 0;
        boolean hole = isHole(image, 0);
        holeParity = hole ? 0 : 1;
        for (int i = 1; i < image.extentCount(); i++) {
            if (isHole(image, i) != hole) {
                hole = !hole;
                if (count == found.length) {
                    found = Arrays.copyOf(found, count * 2);
                }
                found[count++] = image.extent(i).start();
            }
        }
        ends = Arrays.copyOf(found, count + 1);
        ends[count] = image.size();
    }

    private static boolean isHole(FlatImage image, int extent) {
        return image.extent(extent).source() == Zeros.INSTANCE;
    }

    /** The range that holds byte {@code offset} of the device; O(log ranges). */
    int indexOf(long offset) {
        int low = 0;
        int high = ends.length - 1;
        while (low < high) {
            int middle = (low + high) >>> 1;
            if (ends[middle] > offset) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        return low;
    }

    /** The device offset behind range {@code index}. */
    long end(int index) {
        return ends[index];
    }

    /** Whether range {@code index} is a hole. */
    boolean isHole(int index) {
        return (index & 1) == holeParity;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

/**
 * A range of the device and where its bytes come from.
 *
 * @param start first byte on the device, a multiple of 512
 * @param length bytes, a positive multiple of 512
 * @param source where they come from
 * @param sourceOffset the byte of the source that is the extent's first; any value, 0 for zeros
 */
public record Extent(long start, long length, Source source, long sourceOffset) {
    /** The first byte on the device behind it. */
    public long end() {
        return start + length;
    }
}

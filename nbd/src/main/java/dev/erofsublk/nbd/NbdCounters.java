// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

/**
 * What an export has done since this process serves it, over all its connections.
 *
 * @param reads answered, errors included
 * @param bytes that they were to bring
 * @param errors reads whose bytes could not be had
 * @param lastErrorOffset the byte of the device at which such a read began; -1 if there was none
 * @param coldReads reads that had to wait until their bytes were read from a disk or decoded
 */
public record NbdCounters(long reads, long bytes, long errors, long lastErrorOffset, long coldReads) {
    static final NbdCounters NONE = new NbdCounters(0, 0, 0, -1, 0);
}

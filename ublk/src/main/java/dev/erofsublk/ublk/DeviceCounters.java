// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import java.util.Collections;
import java.util.List;

/**
 * What a device has done since this process serves it.
 *
 * @param requests answered, errors included
 * @param bytes handed to the kernel
 * @param errors requests answered with an error. One whose bytes turn out to be missing only while the kernel copies
 *     them fails without the server being told (Linux 7.0 and newer) and is not among them
 * @param lastErrorOffset the byte of the device at which such a request began; -1 if there was none
 * @param coldReads requests that had to wait until their bytes were read from a disk or decoded
 * @param sampledMicros how many of the timed requests took up to {@code 2^i} microseconds and more than the bucket
 *     before; the last one also has those beyond
 * @param sampledNanos what the timed requests took together
 */
public record DeviceCounters(
        long requests,
        long bytes,
        long errors,
        long lastErrorOffset,
        long coldReads,
        List<Long> sampledMicros,
        long sampledNanos) {
    static final DeviceCounters NONE =
            new DeviceCounters(0, 0, 0, -1, 0, Collections.nCopies(QueueCounters.BUCKETS, 0L), 0);

    /** How many requests were timed. */
    public long samples() {
        return sampledMicros.stream().mapToLong(Long::longValue).sum();
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

/**
 * What a device is asked to be; the kernel may grant less of {@link #queues}, {@link #depth} and {@link #maxIoBytes}.
 *
 * @param id the N of {@code /dev/ublkbN}, or {@link #ANY_ID}
 * @param queues hardware queues, 1 to 4096; each has a thread
 * @param depth requests in flight for each queue, 1 to 4096
 * @param blockSize the logical block size in bytes: a power of two, 512 to 4096
 * @param maxIoBytes the longest request in bytes, a power of two, 4096 bytes to 32 MiB
 */
public record DeviceOptions(int id, int queues, int depth, int blockSize, int maxIoBytes) {
    public static final int ANY_ID = -1;
    public static final int MAX_QUEUES = UblkCmd.MAX_NR_QUEUES;
    public static final int MAX_DEPTH = UblkCmd.MAX_QUEUE_DEPTH;
    public static final int DEFAULT_DEPTH = 128;
    /** No buffer stands behind it, so long requests cost nothing. */
    public static final int DEFAULT_MAX_IO_BYTES = 4 << 20;
}

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
 * @param recovery what becomes of it when its server dies
 * @param token any number by which a server knows its own device again ({@link DeviceInfo#token}); the kernel keeps it
 * @param unprivileged whether it belongs to a user without {@code CAP_SYS_ADMIN} (Linux 6.3); there is no recovery then
 * @param dataPath how the bytes of a read get into it
 */
public record DeviceOptions(
        int id,
        int queues,
        int depth,
        int blockSize,
        int maxIoBytes,
        Recovery recovery,
        long token,
        boolean unprivileged,
        DataPath dataPath) {
    public static final int ANY_ID = -1;
    public static final int MAX_QUEUES = UblkCmd.MAX_NR_QUEUES;
    public static final int MAX_DEPTH = UblkCmd.MAX_QUEUE_DEPTH;
    public static final int DEFAULT_DEPTH = 128;
    /** No buffer stands behind it, so long requests cost nothing. */
    public static final int DEFAULT_MAX_IO_BYTES = 4 << 20;

    /** Kernels that do not know the encoding ignore the flag; NEED_GET_DATA is as old as the driver. */
    private static final long ALWAYS_OFFERED = Feature.CMD_IOCTL_ENCODE.bit() | Feature.NEED_GET_DATA.bit();

    /** A device that ends with its server. */
    public DeviceOptions(int id, int queues, int depth, int blockSize, int maxIoBytes) {
        this(id, queues, depth, blockSize, maxIoBytes, Recovery.NONE, 0, false, DataPath.AUTO);
    }

    /** @throws DataPathException if a kernel with the features {@code offered} cannot have the data path for this */
    void requireDataPath(long offered) throws DataPathException {
        if (!dataPath.isOffered(offered)) {
            throw new DataPathException("data path " + dataPath + ": this kernel does not offer UBLK_F_AUTO_BUF_REG"
                    + " (Linux 6.16 or newer does); the data path direct needs nothing");
        }
        if (unprivileged && dataPath == DataPath.ZERO_COPY) {
            throw new DataPathException(
                    "data path " + dataPath + ": the kernel does not let an unprivileged device have it");
        }
    }

    /** The {@link Feature} bits to ask for, of those that the kernel offers. */
    long flags(long offered) {
        long wanted = ALWAYS_OFFERED | dataPath.flags() | (offered & Feature.NO_AUTO_PART_SCAN.bit());
        return wanted | (unprivileged ? Feature.UNPRIVILEGED_DEV.bit() : recovery.flags(offered));
    }
}

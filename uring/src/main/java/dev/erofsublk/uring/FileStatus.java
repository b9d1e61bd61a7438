// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

/**
 * What identifies an open file and tells whether it changed, from {@code statx(2)} on its descriptor, so that no
 * renaming can come between.
 *
 * @param mode file type and permission bits, as in {@code st_mode}
 * @param device the device that holds the file, major in the upper 32 bits
 * @param inode the inode number
 * @param size bytes; for a block device its capacity
 * @param modifiedNanos last change of the content, nanoseconds since the epoch
 */
public record FileStatus(int mode, long device, long inode, long size, long modifiedNanos) {
    private static final int S_IFMT = 0170000;
    private static final int S_IFREG = 0100000;
    private static final int S_IFBLK = 0060000;
    private static final int S_IFDIR = 0040000;

    public boolean isRegularFile() {
        return (mode & S_IFMT) == S_IFREG;
    }

    public boolean isBlockDevice() {
        return (mode & S_IFMT) == S_IFBLK;
    }

    public boolean isDirectory() {
        return (mode & S_IFMT) == S_IFDIR;
    }
}

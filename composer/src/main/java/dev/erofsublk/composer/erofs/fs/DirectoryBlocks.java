// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.util.Arrays;

/**
 * The content of a directory, block by block.
 *
 * {@snippet lang="c" :
 * struct erofs_dirent {           // Linux 7.2, fs/erofs/erofs_fs.h; little-endian, 12 bytes
 *     __le64 nid;                 // @0
 *     __le16 nameoff;             // @8   from the block's first byte; that of the first tells how many there are
 *     __u8   file_type;           // @10
 *     __u8   reserved;            // @11
 * };
 * }
 *
 * <p>Names ascend by their bytes through the whole directory: the kernel searches them by halving, so that one out of
 * order is listed but cannot be opened.
 */
final class DirectoryBlocks {
    private static final int ENTRY = 12;
    private static final int NAME_MAX = 255;

    private DirectoryBlocks() {}

    /** Takes entries. */
    @FunctionalInterface
    interface Visitor {
        /** Takes an entry and says whether to go on. */
        boolean entry(DirectoryEntry entry) throws IOException;
    }

    /** Visits the entries of {@code directory} in their order; every one is checked before it is visited. */
    static void visit(ErofsFileSystem fs, Inode directory, Visitor visitor) throws IOException {
        int blockSize = fs.superblock().blockSize();
        byte[] block = new byte[(int) Math.min(blockSize, directory.size())];
        byte[] last = new byte[0];
        for (long offset = 0; offset < directory.size(); offset += blockSize) {
            int length = (int) Math.min(blockSize, directory.size() - offset);
            fs.content(directory, offset, block, length);
            int table = length < ENTRY ? 0 : Le.u16(block, 8);
            if (table < ENTRY || table % ENTRY != 0 || table >= length) {
                throw refused(fs, directory, offset, "first nameoff", table, "a multiple of 12 within the block");
            }
            for (int at = 0; at < table; at += ENTRY) {
                byte[] name = name(fs, directory, offset, block, length, at, table);
                if (Arrays.compareUnsigned(last, name) >= 0) {
                    throw refused(fs, directory, offset, "name", text(name), "one that sorts behind " + text(last));
                }
                last = name;
                if (!visitor.entry(new DirectoryEntry(name, Le.i64(block, at), Le.u8(block, at + 10)))) {
                    return;
                }
            }
        }
    }

    private static byte[] name(
            ErofsFileSystem fs, Inode directory, long offset, byte[] block, int length, int at, int table)
            throws ImageException {
        int start = Le.u16(block, at + 8);
        boolean isLast = at + ENTRY == table;
        int end = isLast ? length : Le.u16(block, at + ENTRY + 8);
        if (start < table || start >= end || end > length) {
            throw refused(fs, directory, offset, "nameoff", start, "one from %d to %d".formatted(table, end));
        }
        if (isLast) {
            end = start; // its length is not stated: it ends with the block or at a NUL
            while (end < length && block[end] != 0) {
                end++;
            }
        }
        byte[] name = Arrays.copyOfRange(block, start, end);
        if (name.length == 0 || name.length > NAME_MAX || contains(name, 0) || contains(name, '/')) {
            throw refused(fs, directory, offset, "name", text(name), "1 to 255 bytes without NUL and slash");
        }
        return name;
    }

    private static boolean contains(byte[] name, int value) {
        for (byte b : name) {
            if (b == value) {
                return true;
            }
        }
        return false;
    }

    private static String text(byte[] name) {
        return '"' + DirectoryEntry.text(name.length > NAME_MAX ? Arrays.copyOf(name, NAME_MAX) : name) + '"';
    }

    private static ImageException refused(
            ErofsFileSystem fs, Inode directory, long offset, String field, Object found, String expected) {
        return new ImageException(
                fs.name(),
                "%s in block %d of directory inode %d"
                        .formatted(field, offset / fs.superblock().blockSize(), directory.nid()),
                found,
                expected);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.erofs.DeviceSlot;
import dev.erofsublk.composer.erofs.Superblock;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.Set;

/**
 * Tells whether a slot of a tar index holds the tar that was indexed. Nothing in the image names that tar, but in it
 * the block before a file's first is the file's own header: of another layer's tar, hardly one is.
 *
 * <p>Immutable and thread-safe.
 */
final class TarHeaders {
    // POSIX.1-2017 pax(1), ustar interchange format
    private static final int BLOCK = 512;
    private static final int NAME_BYTES = 100;
    private static final int SIZE_AT = 124;
    private static final int SIZE_BYTES = 12;
    private static final int CHECKSUM_AT = 148;
    private static final int CHECKSUM_BYTES = 8;

    private final Set<Integer> tars = new HashSet<>();

    TarHeaders(ErofsFileSystem fs) {
        if (!fs.superblock().isTarIndex()) {
            return;
        }
        byte[] magic = new byte[4];
        for (DeviceSlot slot : fs.slots()) {
            long at = fs.superblock().bytes(slot.block()) + Superblock.OFFSET;
            try {
                if (slot.blocks() > 2) {
                    fs.reader().read(at, magic, 0, 4, "slot", slot.number());
                }
                // a native layer of small blocks is an image of its own
                if (Le.i32(magic, 0) != Superblock.MAGIC) {
                    tars.add(slot.number());
                }
            } catch (IOException unreadable) {
                tars.remove(slot.number()); // who reads its files will say so
            }
        }
    }

    /** Refuses a file of a tar that is not behind a header of its size and, where that tells, of its name. */
    void check(ErofsFileSystem fs, Inode inode, DirectoryEntry entry) throws IOException {
        if (tars.isEmpty() || inode.layout() != Inode.CHUNKED) {
            return;
        }
        FileExtent data = fs.extentAt(inode, 0);
        if (data.kind() != FileExtent.Kind.DATA || !tars.contains(data.device())) {
            return;
        }
        DeviceSlot slot = fs.slots().get(data.device() - 1);
        long at = data.address() - BLOCK;
        byte[] header = new byte[BLOCK];
        boolean inSlot = at >= fs.superblock().bytes(slot.block());
        if (inSlot) {
            fs.reader().read(at, header, 0, BLOCK, "tar header of inode", inode.nid());
        }
        String wrong = !inSlot ? "missing" : difference(header, inode, entry);
        if (!wrong.isEmpty()) {
            throw new ImageException(
                    fs.name(),
                    "slot %d: tar header before the data of inode %d".formatted(data.device(), inode.nid()),
                    wrong,
                    "that of %s, %d bytes: is it the tar that was indexed?".formatted(entry.name(), inode.size()));
        }
    }

    private static String difference(byte[] header, Inode inode, DirectoryEntry entry) {
        if (octal(header, CHECKSUM_AT, CHECKSUM_BYTES) != checksum(header)) {
            return "no header";
        }
        long size = octal(header, SIZE_AT, SIZE_BYTES);
        if (size > 0 && size != inode.size()) { // a pax record may hold what the field cannot
            return "that of a file of " + size + " bytes";
        }
        String name = lastName(header);
        // a hard link has several names, and a long or foreign one is in a record of its own before the header
        boolean tells = inode.links() == 1
                && !name.isEmpty()
                && isAscii(entry.bytes())
                && header[NAME_BYTES - 1] == 0
                && entry.bytes().length < NAME_BYTES;
        if (tells && !name.equals(entry.name())) {
            return "that of " + name;
        }
        return "";
    }

    private static String lastName(byte[] header) {
        int end = 0;
        while (end < NAME_BYTES && header[end] != 0) {
            end++;
        }
        String name = new String(header, 0, end, StandardCharsets.ISO_8859_1);
        return name.substring(name.lastIndexOf('/') + 1);
    }

    private static boolean isAscii(byte[] name) {
        for (byte b : name) {
            if (b < 0) {
                return false;
            }
        }
        return true;
    }

    /** The number in a field, or -1 if it is not an octal one. */
    private static long octal(byte[] header, int at, int length) {
        long value = 0;
        boolean digits = false;
        for (int i = at; i < at + length; i++) {
            if (header[i] >= '0' && header[i] <= '7') {
                value = value << 3 | header[i] - '0';
                digits = true;
            } else if (header[i] == 0 || header[i] == ' ') {
                if (digits) {
                    break;
                }
            } else {
                return -1;
            }
        }
        return digits ? value : -1;
    }

    private static long checksum(byte[] header) {
        long sum = 0;
        for (int i = 0; i < BLOCK; i++) {
            sum += i >= CHECKSUM_AT && i < CHECKSUM_AT + CHECKSUM_BYTES ? ' ' : header[i] & 0xff;
        }
        return sum;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.erofs.Superblock;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.LongPredicate;
import org.jspecify.annotations.Nullable;

/**
 * Extended attributes: between an inode's header and its body, or shared by several inodes.
 *
 * {@snippet lang="c" :
 * struct erofs_xattr_ibody_header { // Linux 7.2, fs/erofs/erofs_fs.h; little-endian, 12 bytes
 *     __le32 h_name_filter;         // @0
 *     __u8   h_shared_count;        // @4
 *     __u8   h_reserved2[7];
 *     __le32 h_shared_xattrs[];     // @12  each in units of 4 bytes from xattr_blkaddr on
 * };
 * struct erofs_xattr_entry {        // aligned to 4
 *     __u8   e_name_len;            // @0
 *     __u8   e_name_index;          // @1   which prefix; bit 7: a long one of the image's own
 *     __le16 e_value_size;          // @2
 *     char   e_name[];              // @4   and behind it the value
 * };
 * }
 */
final class Xattrs {
    private static final int HEADER = 12;
    private static final int ENTRY = 4;
    private static final int LONG_PREFIX = 0x80;

    private Xattrs() {}

    /** Takes attributes; the value has been checked to be there, and is read only if it is asked for. */
    @FunctionalInterface
    interface Visitor {
        void xattr(String name, byte[] bytes, int valueAt, int valueLength) throws IOException;
    }

    /** All attributes of an inode by their full names. */
    static Map<String, byte[]> read(ErofsFileSystem fs, Inode inode) throws IOException {
        Map<String, byte[]> found = new LinkedHashMap<>();
        visit(
                fs,
                inode,
                id -> true,
                (name, bytes, at, length) -> found.putIfAbsent(name, Arrays.copyOfRange(bytes, at, at + length)));
        return found;
    }

    /**
     * Visits the inode's own attributes and then the shared ones.
     *
     * @param wanted which shared ones to look at, by their ids
     */
    static void visit(ErofsFileSystem fs, Inode inode, LongPredicate wanted, Visitor visitor) throws IOException {
        if (inode.xattrBytes() == 0) {
            return;
        }
        byte[] body = new byte[inode.xattrBytes()]; // at most 256 KiB, by the width of i_xattr_icount
        fs.reader().read(inode.offset() + inode.headerBytes(), body, 0, body.length, "xattrs of inode", inode.nid());
        int shared = Le.u8(body, 4);
        int at = HEADER + 4 * shared;
        if (at > body.length) {
            throw refused(fs, inode, "h_shared_count", shared, "at most " + (body.length - HEADER) / 4);
        }
        while (at < body.length) {
            int end = at + ENTRY <= body.length ? at + length(body, at) : Integer.MAX_VALUE;
            if (end > body.length) {
                throw refused(fs, inode, "xattr at byte " + at, "ending at byte " + end, "within " + body.length);
            }
            // mkfs --ovlfs-strip leaves zeros where it took an attribute away; no prefix has number 0
            if (Le.i32(body, at) != 0) {
                emit(fs, inode, body, at, visitor);
            }
            at = (end + 3) & -4;
        }
        for (int i = 0; i < shared; i++) {
            long id = Le.u32(body, HEADER + 4 * i);
            if (wanted.test(id)) {
                visitShared(fs, inode, id, visitor);
            }
        }
    }

    private static int length(byte[] bytes, int at) {
        return ENTRY + Le.u8(bytes, at) + Le.u16(bytes, at + 2);
    }

    private static void visitShared(ErofsFileSystem fs, Inode inode, long id, Visitor visitor) throws IOException {
        Superblock superblock = fs.superblock();
        if ((superblock.featureCompat() & Superblock.COMPAT_SHARED_EA_IN_METABOX) != 0) {
            throw refused(fs, inode, "shared xattr " + id, "in the metabox", "one that this reader can decode");
        }
        long offset = superblock.bytes(superblock.xattrBlock()) + 4 * id;
        byte[] head = new byte[ENTRY];
        fs.reader().read(offset, head, 0, ENTRY, "shared xattr", id);
        byte[] entry = new byte[length(head, 0)];
        fs.reader().read(offset, entry, 0, entry.length, "shared xattr", id);
        emit(fs, inode, entry, 0, visitor);
    }

    private static void emit(ErofsFileSystem fs, Inode inode, byte[] bytes, int at, Visitor visitor)
            throws IOException {
        int nameLength = Le.u8(bytes, at);
        String own = new String(bytes, at + ENTRY, nameLength, StandardCharsets.UTF_8);
        visitor.xattr(
                prefix(fs, inode, Le.u8(bytes, at + 1)) + own, bytes, at + ENTRY + nameLength, Le.u16(bytes, at + 2));
    }

    private static String prefix(ErofsFileSystem fs, Inode inode, int index) throws IOException {
        if ((index & LONG_PREFIX) == 0) {
            String prefix = shortPrefix(index);
            if (prefix.isEmpty()) {
                throw refused(fs, inode, "e_name_index", index, "1 to 6");
            }
            return prefix;
        }
        String[] prefixes = fs.longPrefixes();
        int number = index & ~LONG_PREFIX;
        if (number >= prefixes.length) {
            throw refused(fs, inode, "e_name_index", index, "one of %d long prefixes".formatted(prefixes.length));
        }
        return prefixes[number];
    }

    /** The prefix that a number means, empty if there is none (fs/erofs/xattr.h). */
    private static String shortPrefix(int index) {
        return switch (index) {
            case 1 -> "user.";
            case 2 -> "system.posix_acl_access";
            case 3 -> "system.posix_acl_default";
            case 4 -> "trusted.";
            case 5 -> "lustre.";
            case 6 -> "security.";
            default -> "";
        };
    }

    /** Reads the long prefixes of the image: each a length of 2 bytes, a short prefix's number, and what follows it. */
    static String[] longPrefixes(ErofsFileSystem fs) throws IOException {
        Superblock superblock = fs.superblock();
        String[] prefixes = new String[superblock.xattrPrefixCount()];
        boolean plain = (superblock.featureCompat() & Superblock.COMPAT_PLAIN_XATTR_PFX) != 0;
        boolean packed = !plain && superblock.packedNid() != 0;
        if (prefixes.length > 0 && !plain && !packed && superblock.metaboxNid() != 0) {
            throw new ImageException(
                    fs.name(), "xattr_prefix_start", "in the metabox", "one that this reader can decode");
        }
        Inode inode = packed && prefixes.length > 0 ? fs.inode(superblock.packedNid()) : null;
        long offset = superblock.xattrPrefixOffset();
        byte[] size = new byte[2];
        for (int i = 0; i < prefixes.length; i++) {
            read(fs, inode, offset, size, i);
            byte[] prefix = new byte[Le.u16(size, 0)];
            read(fs, inode, offset + 2, prefix, i);
            if (prefix.length == 0 || shortPrefix(prefix[0]).isEmpty()) {
                throw new ImageException(
                        fs.name(), "long xattr prefix " + i, prefix.length + " bytes", "a base of 1 to 6 and a name");
            }
            prefixes[i] = shortPrefix(prefix[0]) + new String(prefix, 1, prefix.length - 1, StandardCharsets.UTF_8);
            offset = (offset + 2 + prefix.length + 3) & -4;
        }
        return prefixes;
    }

    private static void read(ErofsFileSystem fs, @Nullable Inode inode, long offset, byte[] target, int number)
            throws IOException {
        if (inode == null) {
            fs.reader().read(offset, target, 0, target.length, "long xattr prefix", number);
        } else {
            fs.content(inode, offset, target, target.length);
        }
    }

    private static ImageException refused(
            ErofsFileSystem fs, Inode inode, String field, Object found, String expected) {
        return new ImageException(fs.name(), field + " of inode " + inode.nid(), found, expected);
    }
}

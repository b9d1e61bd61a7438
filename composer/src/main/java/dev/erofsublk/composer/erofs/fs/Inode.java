// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import dev.erofsublk.composer.ImageException;

/**
 * An inode, as the kernel would show it.
 *
 * {@snippet lang="c" :
 * struct erofs_inode_compact {    // Linux 7.2, fs/erofs/erofs_fs.h; little-endian, 32 bytes
 *     __le16 i_format;            // @0   bit 0: extended, bits 1-3: layout, bit 4: see below
 *     __le16 i_xattr_icount;      // @2   0 or 1 + (bytes of inline xattrs - 12) / 4
 *     __le16 i_mode;              // @4
 *     union i_nb i_nb;            // @6   nlink, or with bit 4 upper 16 bits of the start block (nlink is 1)
 *     __le32 i_size;              // @8
 *     __le32 i_mtime;             // @12  seconds behind the superblock's epoch
 *     union i_u i_u;              // @16  start block, device number or chunk format
 *     __le32 i_ino;               // @20
 *     __le16 i_uid, i_gid;        // @24, @26
 *     __le32 i_reserved;          // @28
 * };
 * struct erofs_inode_extended {   // 64 bytes
 *     ...                         // @0 to @7 as above
 *     __le64 i_size;              // @8
 *     union i_u i_u;              // @16
 *     __le32 i_ino;               // @20
 *     __le32 i_uid, i_gid;        // @24, @28
 *     __le64 i_mtime;             // @32
 *     __le32 i_mtime_nsec;        // @40
 *     __le32 i_nlink;             // @44
 *     __u8   i_reserved2[16];     // @48
 * };
 * }
 *
 * @param nid its number, which tells its place: 32 bytes each from the metadata's first block on
 * @param offset its first byte on the device
 * @param headerBytes 32 or 64
 * @param xattrBytes bytes of xattrs between the header and what follows it: 0 or at least 12
 * @param layout one of the constants here
 * @param mode type and permissions, as in {@code st_mode}
 * @param size bytes of content
 * @param seconds last change of the content, in seconds since 1970, with {@code nanos}
 * @param startBlock first block of a flat layout; {@link #NO_BLOCK} for a hole
 * @param unionValue the raw {@code i_u}: device number of a device file, chunk format, blocks of compressed data
 */
public record Inode(
        long nid,
        long offset,
        int headerBytes,
        int xattrBytes,
        int layout,
        int mode,
        long size,
        int uid,
        int gid,
        long links,
        long seconds,
        int nanos,
        long startBlock,
        int unionValue) {
    /** Content in consecutive blocks. */
    public static final int PLAIN = 0;

    public static final int COMPRESSED_FULL = 1;
    /** As {@link #PLAIN}, but the last block lies behind the inode. */
    public static final int INLINE = 2;

    public static final int COMPRESSED_COMPACT = 3;
    /** Content in chunks, each somewhere on some device. */
    public static final int CHUNKED = 4;

    public static final long NO_BLOCK = -1;

    static final int COMPACT_BYTES = 32;
    static final int EXTENDED_BYTES = 64;

    private static final int S_IFMT = 0170000;
    private static final int BIT_4 = 0x10;
    private static final int FORMAT_KNOWN = 0x1f;

    /**
     * Reads an inode.
     *
     * @param bytes from its first on: 64, or 32 where no more are on the device
     * @param epoch the superblock's, for compact inodes, with {@code fixedNanos}
     */
    static Inode parse(String file, long nid, long offset, byte[] bytes, int length, long epoch, int fixedNanos)
            throws ImageException {
        int format = Le.u16(bytes, 0);
        int layout = format >> 1 & 7;
        boolean extended = (format & 1) != 0;
        if ((format & ~FORMAT_KNOWN) != 0 || layout > CHUNKED) {
            throw refused(file, nid, "i_format", "0x%x".formatted(format), "a layout of 0 to 4 and no bit above 4");
        }
        if (extended && length < EXTENDED_BYTES) {
            throw refused(file, nid, "i_format", "extended", "64 bytes before the end of the device");
        }
        int mode = Le.u16(bytes, 4);
        int icount = Le.u16(bytes, 2);
        int nb = Le.u16(bytes, 6);
        boolean directory = (mode & S_IFMT) == Type.DIRECTORY.mode();
        boolean wideBlock = extended || (!directory && (format & BIT_4) != 0);
        long size = extended ? Le.i64(bytes, 8) : Le.u32(bytes, 8);
        if (size < 0) {
            throw refused(file, nid, "i_size", Long.toUnsignedString(size), "less than 2^63");
        }
        Inode inode = new Inode(
                nid,
                offset,
                extended ? EXTENDED_BYTES : COMPACT_BYTES,
                icount == 0 ? 0 : 12 + 4 * (icount - 1),
                layout,
                mode,
                size,
                extended ? Le.i32(bytes, 24) : Le.u16(bytes, 24),
                extended ? Le.i32(bytes, 28) : Le.u16(bytes, 26),
                extended ? Le.u32(bytes, 44) : wideBlock ? 1 : nb,
                extended ? Le.i64(bytes, 32) : epoch + Le.u32(bytes, 12),
                extended ? Le.i32(bytes, 40) : fixedNanos,
                startBlock(Le.u32(bytes, 16), nb, wideBlock),
                Le.i32(bytes, 16));
        if (Type.of(mode) == null) {
            throw refused(file, nid, "i_mode", "0%o".formatted(mode), "a type that Linux has");
        }
        return inode;
    }

    private static long startBlock(long low, int high, boolean wide) {
        if (low == 0xffffffffL && (!wide || high == 0xffff)) {
            return NO_BLOCK;
        }
        return wide ? (long) high << 32 | low : low;
    }

    private static ImageException refused(String file, long nid, String field, Object found, String expected) {
        return new ImageException(file, field + " of inode " + nid, found, expected);
    }

    /** What kind of file it is. */
    public Type type() {
        Type type = Type.of(mode);
        if (type == null) {
            throw new IllegalStateException("mode 0%o".formatted(mode));
        }
        return type;
    }

    public boolean isDirectory() {
        return type() == Type.DIRECTORY;
    }

    public boolean isCompressed() {
        return layout == COMPRESSED_FULL || layout == COMPRESSED_COMPACT;
    }

    /** Whether it has content on the device at all. */
    public boolean hasData() {
        Type type = type();
        return (type == Type.REGULAR || type == Type.DIRECTORY || type == Type.SYMLINK) && size > 0;
    }

    /** The byte of the device behind header and xattrs. */
    public long bodyOffset() {
        return offset + headerBytes + xattrBytes;
    }

    /** Major number of a device file ({@code new_decode_dev} of the kernel). */
    public int major() {
        return (unionValue & 0xfff00) >>> 8;
    }

    /** Minor number of a device file. */
    public int minor() {
        return (unionValue & 0xff) | (unionValue >>> 12 & 0xfff00);
    }
}

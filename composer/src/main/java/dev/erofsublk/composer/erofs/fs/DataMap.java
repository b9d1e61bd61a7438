// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.erofs.Superblock;
import dev.erofsublk.composer.erofs.fs.FileExtent.Kind;
import java.io.IOException;

/**
 * Where the bytes of an uncompressed file are: {@code erofs_map_blocks} of fs/erofs/data.c (Linux 7.2).
 *
 * <p>A chunk-based inode has, behind its xattrs, an array of 4-byte block numbers or of these:
 *
 * {@snippet lang="c" :
 * struct erofs_inode_chunk_index { // little-endian, 8 bytes, aligned to 8
 *     __le16 startblk_hi;          // @0   counts with EROFS_CHUNK_FORMAT_48BIT only
 *     __le16 device_id;            // @2
 *     __le32 startblk_lo;          // @4   all ones: a hole
 * };
 * }
 */
final class DataMap {
    static final int CHUNK_BITS_MASK = 0x1f;
    static final int CHUNK_INDEXES = 0x20;
    static final int CHUNK_48BIT = 0x40;
    private static final int CHUNK_KNOWN = 0x7f;

    private DataMap() {}

    /** The extent that holds byte {@code offset} of {@code inode}, which has data and is not compressed. */
    static FileExtent at(ErofsFileSystem fs, Inode inode, long offset) throws IOException {
        return inode.layout() == Inode.CHUNKED ? chunk(fs, inode, offset) : flat(fs, inode, offset);
    }

    private static FileExtent flat(ErofsFileSystem fs, Inode inode, long offset) throws ImageException {
        Superblock superblock = fs.superblock();
        int bits = superblock.blockBits();
        boolean inline = inode.layout() == Inode.INLINE;
        long blocks = blocks(inode.size(), bits) - (inline ? 1 : 0);
        long tail = blocks << bits;
        if (offset >= tail && inline) {
            long length = inode.size() - tail;
            long inBlock = inode.bodyOffset() & (superblock.blockSize() - 1);
            if (inBlock + length > superblock.blockSize()) {
                throw new ImageException(
                        fs.name(),
                        "inline data of inode " + inode.nid(),
                        "%d bytes at byte %d of a block".formatted(length, inBlock),
                        "within a block of " + superblock.blockSize());
            }
            return FileExtent.plain(tail, length, Kind.INLINE, 0, inode.bodyOffset());
        }
        if (inode.startBlock() == Inode.NO_BLOCK && !inline) {
            return FileExtent.hole(0, inode.size());
        }
        long block = fs.regions().resolve(0, inode.startBlock(), blocks, "content", 0, inode.nid());
        return FileExtent.plain(0, inline ? tail : inode.size(), Kind.DATA, 0, block << bits);
    }

    private static FileExtent chunk(ErofsFileSystem fs, Inode inode, long offset) throws IOException {
        int chunkBits = chunkBits(fs, inode);
        long number = offset >>> chunkBits;
        byte[] entry = fs.scratch();
        int unit = chunkUnit(inode);
        fs.reader().read(chunkArray(inode) + number * unit, entry, 0, unit, "chunk", number);
        return decode(fs, inode, chunkBits, number, entry, 0);
    }

    /** Bytes of an entry of the array. */
    static int chunkUnit(Inode inode) {
        return (inode.unionValue() & CHUNK_INDEXES) != 0 ? 8 : 4;
    }

    /** The first byte of the array behind the inode. */
    static long chunkArray(Inode inode) {
        int unit = chunkUnit(inode);
        return (inode.bodyOffset() + unit - 1) & -unit;
    }

    /** log2 of the bytes of a chunk of this inode; 9 to 47. */
    static int chunkBits(ErofsFileSystem fs, Inode inode) throws ImageException {
        int format = inode.unionValue() & 0xffff;
        if ((format & ~CHUNK_KNOWN) != 0) {
            throw new ImageException(
                    fs.name(), "chunk format of inode " + inode.nid(), "0x%x".formatted(format), "no bit above 0x40");
        }
        return fs.superblock().blockBits() + (format & CHUNK_BITS_MASK);
    }

    /** Reads entry {@code number} of the array, of which the bytes are given, and checks where it points to. */
    static FileExtent decode(ErofsFileSystem fs, Inode inode, int chunkBits, long number, byte[] entry, int at)
            throws ImageException {
        int bits = fs.superblock().blockBits();
        long start = number << chunkBits;
        long length = Math.min(1L << chunkBits, inode.size() - start);
        boolean indexes = (inode.unionValue() & CHUNK_INDEXES) != 0;
        long low = Le.u32(entry, indexes ? at + 4 : at);
        boolean wide = indexes && (inode.unionValue() & CHUNK_48BIT) != 0;
        int high = wide ? Le.u16(entry, at) : 0;
        if (low == 0xffffffffL && (!wide || high == 0xffff)) {
            return FileExtent.hole(start, length);
        }
        int device = indexes ? fs.regions().device(Le.u16(entry, at + 2)) : 0;
        long block = (long) high << 32 | low;
        long place = fs.regions().resolve(device, block, blocks(length, bits), "chunk", number, inode.nid());
        return FileExtent.plain(start, length, Kind.DATA, device, place << bits);
    }

    /** How many blocks hold {@code bytes} bytes; right up to 2^63. */
    static long blocks(long bytes, int bits) {
        return bytes == 0 ? 0 : ((bytes - 1) >>> bits) + 1;
    }
}

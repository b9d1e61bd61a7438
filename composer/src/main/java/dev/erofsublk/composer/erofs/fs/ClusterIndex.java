// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.erofs.Superblock;
import java.io.IOException;

/**
 * The index of a compressed file: what each of its logical clusters is.
 *
 * {@snippet lang="c" :
 * struct z_erofs_map_header {     // Linux 7.2, fs/erofs/erofs_fs.h; little-endian, 8 bytes, aligned to 8
 *     union {
 *         __le32 h_fragmentoff;   // @0   in the packed inode
 *         struct { __le16 h_reserved1, h_idata_size; };
 *     };
 *     __le16 h_advise;            // @4
 *     __u8   h_algorithmtype;     // @6   bits 0-3 of head 1, 4-7 of head 2
 *     __u8   h_clusterbits;       // @7   bits 0-3: above the block's; bit 7: the whole file is a fragment
 * };
 * struct z_erofs_lcluster_index { // of the full layout: 8 bytes each, 16 behind the header's first byte
 *     __le16 di_advise;           // @0   bits 0-1: type; bit 15: partial
 *     __le16 di_clusterofs;       // @2   where in the cluster a head's extent begins
 *     union {
 *         __le32 blkaddr;         // @4   of a head
 *         __le16 delta[2];        // @4   of another: distance to its head, and to the next
 *     } di_u;
 * };
 * }
 *
 * <p>The compact layout packs 2 entries into 8 bytes, or 16 into 32: the entries' low bits and types as a bit field,
 * and the pack's first block in its last 4 bytes.
 */
final class ClusterIndex {
    static final int PLAIN = 0;
    static final int HEAD1 = 1;
    static final int NONHEAD = 2;
    static final int HEAD2 = 3;

    // h_advise
    private static final int COMPACTED_2B = 0x1;
    private static final int BIG_1 = 0x2;
    private static final int BIG_2 = 0x4;
    private static final int INLINE_TAIL = 0x8;
    private static final int INTERLACED = 0x10;
    private static final int TAIL_FRAGMENT = 0x20;
    private static final int ADVISE_KNOWN = 0x3f;

    private static final int WHOLE_FRAGMENT = 0x80;
    private static final int COUNT_FLAG = 1 << 11; // Z_EROFS_LI_D0_CBLKCNT
    private static final int PARTIAL = 1 << 15;
    private static final int CODECS = 4;

    /**
     * A logical cluster.
     *
     * @param number from 0 on
     * @param offset of a head: where in the cluster its extent begins
     * @param back of another: how many clusters back its head is
     * @param count of the first behind a head: how many blocks that head's physical cluster has; 0 if it does not say
     * @param block of a head: the first block
     * @param behind byte of the device behind its entry, or behind its entry's pack
     */
    record Cluster(long number, int type, int offset, int back, int count, long block, boolean partial, long behind) {}

    private final ErofsFileSystem fs;
    private final Inode inode;
    private final long header;
    private final byte[] pack = new byte[32];
    private int advise;
    private int codecs;
    private int clusterBits;
    private long fragmentOffset = -1;
    private int tailBytes;
    private boolean whole;
    private long tailHead = -1;
    private long tailAddress;

    private ClusterIndex(ErofsFileSystem fs, Inode inode) {
        this.fs = fs;
        this.inode = inode;
        header = (inode.bodyOffset() + 7) & -8;
        clusterBits = fs.superblock().blockBits();
    }

    /** Reads what is said about the whole file. */
    static ClusterIndex open(ErofsFileSystem fs, Inode inode) throws IOException {
        ClusterIndex index = new ClusterIndex(fs, inode);
        index.readHeader();
        return index;
    }

    private void readHeader() throws IOException {
        Superblock superblock = fs.superblock();
        boolean old = (superblock.featureIncompat()
                                & (Superblock.INCOMPAT_COMPR_CFGS
                                        | Superblock.INCOMPAT_ZTAILPACKING
                                        | Superblock.INCOMPAT_FRAGMENTS))
                        == 0
                && inode.layout() == Inode.COMPRESSED_FULL;
        if (old) {
            return; // before there was a header
        }
        fs.reader().read(header, pack, 0, 8, "z_erofs_map_header of inode", inode.nid());
        long low = Le.u32(pack, 0);
        int bits = Le.u8(pack, 7);
        if ((bits & WHOLE_FRAGMENT) != 0) {
            whole = true;
            fragmentOffset = Le.i64(pack, 0) ^ Long.MIN_VALUE;
            return;
        }
        advise = Le.u16(pack, 4);
        codecs = Le.u8(pack, 6);
        clusterBits += bits & 15;
        if ((advise & ~ADVISE_KNOWN) != 0
                || (inode.layout() == Inode.COMPRESSED_FULL && (advise & COMPACTED_2B) != 0)) {
            throw refused("h_advise", "0x%x".formatted(advise), "bits that this reader knows: no extent records");
        }
        if ((codecs & 15) >= CODECS || codecs >> 4 >= CODECS) {
            throw refused("h_algorithmtype", "0x%x".formatted(codecs), "lz4, lzma, deflate or zstd");
        }
        if (clusterBits > 16) {
            throw refused("h_clusterbits", bits, "logical clusters of at most 64 KiB");
        }
        if ((advise & (INLINE_TAIL | TAIL_FRAGMENT)) != 0) {
            Cluster last = at((inode.size() - 1) >> clusterBits);
            tailBytes = (advise & INLINE_TAIL) != 0 ? (int) (low >>> 16) : 0;
            tailAddress = last.behind;
            Cluster head = headOf(inode.size() - 1);
            tailHead = head.number;
            if ((advise & TAIL_FRAGMENT) != 0) {
                fragmentOffset = inode.layout() == Inode.COMPRESSED_FULL ? head.block << 32 | low : low;
            }
        }
    }

    Inode inode() {
        return inode;
    }

    /** log2 of the bytes of a logical cluster. */
    int clusterBits() {
        return clusterBits;
    }

    /** Whether the whole file lies in the packed inode. */
    boolean isFragment() {
        return whole;
    }

    /** Whether the last extent lies in the packed inode. */
    boolean hasTailFragment() {
        return (advise & TAIL_FRAGMENT) != 0;
    }

    /** Where in the packed inode; negative if it is too far to be. */
    long fragmentOffset() {
        return fragmentOffset;
    }

    boolean isInterlaced() {
        return (advise & INTERLACED) != 0;
    }

    /** The cluster of the last extent's head, if that extent is stored in a way of its own; else -1. */
    long tailHead() {
        return tailHead;
    }

    /** Bytes of the last extent that are stored behind the index; 0 if it is not. */
    int tailBytes() {
        return tailBytes;
    }

    long tailAddress() {
        return tailAddress;
    }

    int codec1() {
        return codecs & 15;
    }

    int codec2() {
        return codecs >> 4;
    }

    /** The head of the extent that holds byte {@code offset} of the file. */
    Cluster headOf(long offset) throws IOException {
        long number = offset >> clusterBits;
        int within = (int) (offset & ((1 << clusterBits) - 1));
        Cluster cluster = at(number);
        int back = cluster.type == NONHEAD ? cluster.back : cluster.offset > within ? 1 : 0;
        while (back > 0 || cluster.type == NONHEAD) {
            // an extent is at most 12 MiB long, so that its head is not far
            if (back == 0 || back > cluster.number || number - cluster.number + back > maxClusters()) {
                throw refused(
                        "distance to the head of cluster " + cluster.number, back, "one within the file and 12 MiB");
            }
            cluster = at(cluster.number - back);
            back = cluster.type == NONHEAD ? cluster.back : 0;
        }
        return cluster;
    }

    private int maxClusters() {
        return (Compressed.MAX_EXTENT >> clusterBits) + 1;
    }

    /** The byte of the file behind the extent of {@code head}. */
    long endOf(Cluster head) throws IOException {
        long count = DataMap.blocks(inode.size(), clusterBits);
        long limit = Math.min(count, head.number + maxClusters() + 1);
        for (long number = head.number + 1; number < limit; number++) {
            Cluster next = at(number);
            if (next.type != NONHEAD) {
                return Math.min(inode.size(), (number << clusterBits) + next.offset);
            }
        }
        if (limit < count) {
            throw refused("extent of cluster " + head.number, "longer than 12 MiB", "a next head before that");
        }
        return inode.size();
    }

    /** How many blocks hold the extent of {@code head}. */
    long storedBlocks(Cluster head) throws IOException {
        long one = 1L << (clusterBits - fs.superblock().blockBits());
        boolean big = (advise & (head.type == HEAD1 ? BIG_1 : BIG_2)) != 0;
        long next = head.number + 1;
        if (!big || (next << clusterBits) >= inode.size()) {
            return one;
        }
        Cluster cluster = at(next);
        if (cluster.type != NONHEAD) {
            return one;
        }
        if (cluster.count == 0) {
            throw refused("cluster " + next, "without a count of blocks", "one, being the first behind its head");
        }
        return cluster.count;
    }

    private Cluster at(long number) throws IOException {
        return inode.layout() == Inode.COMPRESSED_FULL ? full(number) : compact(number);
    }

    private Cluster full(long number) throws IOException {
        long at = header + 16 + number * 8;
        fs.reader().read(at, pack, 0, 8, "cluster", number);
        int flags = Le.u16(pack, 0);
        int type = flags & 3;
        if (type == NONHEAD) {
            int delta = Le.u16(pack, 4);
            boolean count = (delta & COUNT_FLAG) != 0;
            return new Cluster(number, type, 0, count ? 1 : delta, count ? delta & ~COUNT_FLAG : 0, 0, false, at + 8);
        }
        int offset = Le.u16(pack, 2);
        if (offset >= 1 << clusterBits) {
            throw refused("di_clusterofs of cluster " + number, offset, "less than " + (1 << clusterBits));
        }
        return new Cluster(number, type, offset, 0, 0, Le.u32(pack, 4), (flags & PARTIAL) != 0, at + 8);
    }

    private Cluster compact(long number) throws IOException {
        long base = header + 8;
        long total = DataMap.blocks(inode.size(), clusterBits);
        if (number >= total) {
            throw refused("cluster", number, "less than " + total);
        }
        // entries of 4 bytes up to a multiple of 32, then as many packs of 16 as there are, then of 4 bytes again
        long first = Math.min(total, (32 - base % 32) % 32 / 4);
        long small = (advise & COMPACTED_2B) != 0 ? (total - first) & -16 : 0;
        long at;
        int shift = 2;
        if (number < first) {
            at = base + number * 4;
        } else if (number < first + small) {
            at = base + first * 4 + (number - first) * 2;
            shift = 1;
        } else {
            at = base + first * 4 + small * 2 + (number - first - small) * 4;
        }
        return unpack(number, at, shift);
    }

    private Cluster unpack(long number, long at, int shift) throws IOException {
        int entries = shift == 2 ? 2 : 16;
        int bytes = entries << shift;
        if (shift == 1 ? clusterBits > 12 : clusterBits > 14) {
            throw refused("h_clusterbits", clusterBits, "at most 4 KiB, or 16 KiB without packs of 16");
        }
        long start = at & -bytes;
        fs.reader().read(start, pack, 0, bytes, "cluster", number);
        int width = (bytes - 4) * 8 / entries;
        int lowBits = Math.max(clusterBits, 12);
        int own = (int) (at - start) >> shift;
        int low = low(own, width, lowBits);
        int type = type(own, width, lowBits);
        if (type == NONHEAD) {
            if ((low & COUNT_FLAG) != 0) {
                return new Cluster(number, type, 0, 1, low & ~COUNT_FLAG, 0, false, start + bytes);
            }
            int back = own + 1 < entries ? low : backOfLast(own, width, lowBits);
            return new Cluster(number, type, 0, back, 0, 0, false, start + bytes);
        }
        if (low >= 1 << clusterBits) {
            throw refused("offset in cluster " + number, low, "less than " + (1 << clusterBits));
        }
        long block = Le.u32(pack, bytes - 4) + blocksBefore(number, own, width, lowBits);
        return new Cluster(number, type, low, 0, 0, block, false, start + bytes);
    }

    private int low(int entry, int width, int lowBits) {
        return bits(entry * width) & ((1 << lowBits) - 1);
    }

    private int type(int entry, int width, int lowBits) {
        return bits(entry * width) >>> lowBits & 3;
    }

    private int bits(int at) {
        return (int) (Le.u32(pack, at / 8) >>> (at & 7));
    }

    /** The last entry of a pack has the distance to the next head; that to its own follows from the one before. */
    private int backOfLast(int own, int width, int lowBits) {
        if (type(own - 1, width, lowBits) != NONHEAD) {
            return 1;
        }
        int low = low(own - 1, width, lowBits);
        return (low & COUNT_FLAG) != 0 ? 2 : low + 1;
    }

    /** How many blocks the extents before entry {@code own} of its pack have, from the pack's first block on. */
    private long blocksBefore(long number, int own, int width, int lowBits) throws ImageException {
        boolean big = (advise & BIG_1) != 0;
        long blocks = big ? 0 : 1;
        for (int i = own; i > 0; ) {
            i--;
            int low = low(i, width, lowBits);
            if (type(i, width, lowBits) != NONHEAD) {
                blocks++;
            } else if (!big) {
                i -= low;
                if (i >= 0) {
                    blocks++;
                }
            } else if ((low & COUNT_FLAG) != 0) {
                i--;
                blocks += low & ~COUNT_FLAG;
            } else if (low > 1) {
                i -= low - 2;
            } else {
                throw refused("distance in the pack of cluster " + number, low, "more than 1");
            }
        }
        return blocks;
    }

    private ImageException refused(String field, Object found, String expected) {
        return new ImageException(fs.name(), field + " of inode " + inode.nid(), found, expected);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.erofs.Superblock;
import dev.erofsublk.composer.erofs.fs.FileExtent.Kind;
import java.io.IOException;
import java.util.LinkedHashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * Compressed files: where their extents are (fs/erofs/zmap.c, Linux 7.2), and what they decode to.
 *
 * <p>A file is cut into logical clusters of a block each. The index has an entry for each of them, which is the head of
 * an extent or leads to one; an extent is what one physical cluster of consecutive blocks decodes to. The last extent
 * may lie behind the index ("tail packing") or in the image's packed inode ("fragment").
 *
 * <p>Not thread-safe. Keeps two decoded extents of at most 12 MiB each.
 */
final class Compressed {
    /** Longest extent that the kernel decodes ({@code Z_EROFS_PCLUSTER_MAX_DSIZE}). */
    static final int MAX_EXTENT = 12 << 20;
    /** Longest physical cluster that it reads ({@code Z_EROFS_PCLUSTER_MAX_SIZE}). */
    private static final int MAX_STORED = 1 << 20;

    /** In a codec: only a part of what the physical cluster decodes to is the extent's. */
    private static final int PARTIAL = 0x100;
    /** As a codec: bytes of the packed inode. */
    private static final int FRAGMENT = 0x200;

    private static final int KEPT = 2;

    private final ErofsFileSystem fs;
    private final int blockBits;
    private @Nullable ClusterIndex index;
    private @Nullable ErofsFileSystem packedView;
    private @Nullable Inode packed;
    private final Map<FileExtent, byte[]> decoded = new LinkedHashMap<>(KEPT, 0.75f, true) {
        @Override
        protected boolean removeEldestEntry(Map.Entry<FileExtent, byte[]> eldest) {
            return size() > KEPT;
        }
    };

    Compressed(ErofsFileSystem fs) {
        this.fs = fs;
        blockBits = fs.superblock().blockBits();
    }

    private ClusterIndex index(Inode inode) throws IOException {
        if (index == null || index.inode().nid() != inode.nid()) {
            index = ClusterIndex.open(fs, inode);
        }
        return index;
    }

    /** Looks at every extent of a file, but decodes none. */
    void check(Inode inode) throws IOException {
        for (long offset = 0; offset < inode.size(); ) {
            offset = at(inode, offset).end();
        }
    }

    /** The extent that holds byte {@code offset}. */
    FileExtent at(Inode inode, long offset) throws IOException {
        ClusterIndex map = index(inode);
        if (map.isFragment()) {
            return fragment(inode, map, 0, inode.size());
        }
        int bits = map.clusterBits();
        ClusterIndex.Cluster head = map.headOf(offset);
        long start = (head.number() << bits) + head.offset();
        long end = map.endOf(head);
        if (start > offset || end <= offset || end - start > MAX_EXTENT) {
            throw refused(
                    inode, "extent at byte " + offset, "[%d, %d)".formatted(start, end), "at most 12 MiB around it");
        }
        boolean last = head.number() == map.tailHead();
        if (last && map.hasTailFragment()) {
            return fragment(inode, map, start, end - start);
        }
        long address;
        long stored;
        if (last && map.tailBytes() > 0) {
            address = map.tailAddress();
            stored = map.tailBytes();
            long inBlock = address & (fs.superblock().blockSize() - 1);
            if (inBlock + stored > fs.superblock().blockSize()) {
                throw refused(inode, "h_idata_size", stored, "within a block, from byte " + inBlock);
            }
        } else {
            long blocks = map.storedBlocks(head);
            stored = blocks << blockBits;
            if (blocks == 0 || stored > MAX_STORED) {
                throw refused(inode, "physical cluster at byte " + start, blocks + " blocks", "1 MiB at most");
            }
            address = fs.regions().resolve(0, head.block(), blocks, "cluster", head.number(), inode.nid()) << blockBits;
        }
        if (head.type() == ClusterIndex.PLAIN) {
            return plain(inode, map, offset, start, end, address, stored);
        }
        int codec = head.type() == ClusterIndex.HEAD2 ? map.codec2() : map.codec1();
        return new FileExtent(
                start, end - start, Kind.ENCODED, 0, address, stored, head.partial() ? codec | PARTIAL : codec);
    }

    /**
     * Bytes stored as they are. "Interlaced" ones begin in their block where they begin in the file's, and go on at the
     * block's first byte when its end is reached: two extents.
     */
    private FileExtent plain(
            Inode inode, ClusterIndex map, long offset, long start, long end, long address, long stored)
            throws ImageException {
        if (end - start > stored) {
            throw refused(inode, "plain extent at byte " + start, end - start + " bytes", "at most " + stored);
        }
        if (!map.isInterlaced()) {
            return FileExtent.plain(start, end - start, Kind.DATA, 0, address);
        }
        long skip = start & (fs.superblock().blockSize() - 1);
        long right = Math.min(end - start, fs.superblock().blockSize() - skip);
        if (stored > fs.superblock().blockSize()) {
            throw refused(inode, "interlaced extent at byte " + start, stored + " bytes stored", "one block");
        }
        return offset < start + right
                ? FileExtent.plain(start, right, Kind.DATA, 0, address + skip)
                : FileExtent.plain(start + right, end - start - right, Kind.DATA, 0, address);
    }

    private FileExtent fragment(Inode inode, ClusterIndex map, long start, long length) throws IOException {
        if (inode.nid() == fs.superblock().packedNid()) {
            throw refused(inode, "z_advise", "a fragment", "no fragments in the packed inode itself");
        }
        if (map.fragmentOffset() < 0 || length > packed().size() - map.fragmentOffset()) {
            throw refused(
                    inode,
                    "fragment offset",
                    "%d (+%d)".formatted(map.fragmentOffset(), length),
                    "within the packed inode's " + packed().size() + " bytes");
        }
        // the offset in the packed inode stands where a place on the device would
        return new FileExtent(start, length, Kind.ENCODED, 0, map.fragmentOffset(), 0, FRAGMENT);
    }

    private Inode packed() throws IOException {
        if (packed == null) {
            packed = fs.inode(fs.superblock().packedNid());
        }
        return packed;
    }

    /** The bytes of an {@link Kind#ENCODED} extent, at least as many as it has; not to be changed. */
    byte[] decode(Inode inode, FileExtent extent) throws IOException {
        byte[] bytes = decoded.get(extent);
        if (bytes == null) {
            bytes = extent.codec() == FRAGMENT ? readFragment(inode, extent) : decompress(inode, extent);
            decoded.put(extent, bytes);
        }
        return bytes;
    }

    private byte[] readFragment(Inode inode, FileExtent extent) throws IOException {
        if (extent.length() > MAX_EXTENT) {
            throw refused(inode, "fragment", extent.length() + " bytes", "at most 12 MiB");
        }
        byte[] bytes = new byte[(int) extent.length()];
        if (packedView == null) {
            packedView = fs.fork(); // of its own, so that this file's index and extents stay at hand
        }
        packedView.content(packed(), extent.address(), bytes, bytes.length);
        return bytes;
    }

    private byte[] decompress(Inode inode, FileExtent extent) throws IOException {
        byte[] stored = new byte[(int) extent.stored()];
        fs.reader().read(extent.address(), stored, 0, stored.length, "content of inode", inode.nid());
        int start = 0;
        if ((fs.superblock().featureIncompat() & Superblock.INCOMPAT_ZERO_PADDING) != 0) {
            int limit = Math.min(stored.length, fs.superblock().blockSize());
            while (start < limit && stored[start] == 0) {
                start++;
            }
        }
        byte[] bytes = new byte[(int) extent.length()];
        try {
            Codecs.decode(extent.codec() & ~PARTIAL, stored, start, bytes, (extent.codec() & PARTIAL) != 0);
        } catch (Codecs.DamagedException e) {
            throw refused(
                    inode, "compressed data at byte " + extent.address(), e.getMessage(), bytes.length + " bytes");
        }
        return bytes;
    }

    private ImageException refused(Inode inode, String field, @Nullable Object found, String expected) {
        return new ImageException(fs.name(), field + " of inode " + inode.nid(), String.valueOf(found), expected);
    }
}

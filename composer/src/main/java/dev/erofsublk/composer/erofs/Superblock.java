// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Source;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.zip.CRC32C;

/**
 * An EROFS superblock: 128 bytes at byte 1024 of the image, and up to 255 extension slots of 16 bytes behind them.
 *
 * {@snippet lang="c" :
 * struct erofs_super_block {      // Linux 7.2, fs/erofs/erofs_fs.h; little-endian
 *     __le32 magic;               // @0   0xE0F5E1E2
 *     __le32 checksum;            // @4   crc32c of the block from here on, if compat bit 0x1
 *     __le32 feature_compat;      // @8
 *     __u8   blkszbits;           // @12
 *     __u8   sb_extslots;         // @13
 *     __le16 rootnid_2b;          // @14  or blocks_hi: 48BIT and rootnid_8b != 0
 *     __le64 inos, epoch;         // @16, @24
 *     __le32 fixed_nsec;          // @32
 *     __le32 blocks_lo;           // @36
 *     __le32 meta_blkaddr;        // @40
 *     __le32 xattr_blkaddr;       // @44
 *     __u8   uuid[16];            // @48
 *     __u8   volume_name[16];     // @64
 *     __le32 feature_incompat;    // @80
 *     __le16 available_compr_algs;// @84
 *     __le16 extra_devices;       // @86
 *     __le16 devt_slotoff;        // @88  in units of 128 bytes
 *     __u8   dirblkbits;          // @90
 *     __u8   xattr_prefix_count;  // @91
 *     __le32 xattr_prefix_start;  // @92  in units of 4 bytes
 *     __le64 packed_nid;          // @96
 *     __le32 build_time;          // @108
 *     __le64 rootnid_8b;          // @112
 *     __le64 reserved2;           // @120
 *     __le64 metabox_nid;         // @128 with sb_extslots >= 1
 * };
 * }
 *
 * @param blockBits log2 of the block size: 9 to 16
 * @param blocks blocks of the primary device; for RAFS v6 those of all its blobs instead
 * @param rootNid number of the root inode
 * @param deviceSlotOffset byte at which the device table begins
 * @param xattrPrefixOffset byte of the packed inode, or of the image, at which the long xattr prefixes begin
 * @param uuid 32 hexadecimal digits, which is also the tag by which a merged image knows a layer
 */
public record Superblock(
        int featureCompat,
        int featureIncompat,
        int blockBits,
        int extSlots,
        long blocks,
        long rootNid,
        long inodes,
        long epoch,
        int fixedNanos,
        long metaBlock,
        long xattrBlock,
        String uuid,
        String volumeName,
        int compressionAlgorithms,
        int extraDevices,
        int deviceSlotOffset,
        int xattrPrefixCount,
        long xattrPrefixOffset,
        long packedNid,
        long metaboxNid) {
    /** The byte of the image at which the superblock begins. */
    public static final int OFFSET = 1024;

    public static final int BYTES = 128;
    public static final int MAGIC = 0xE0F5E1E2;

    static final int CHECKSUM_AT = OFFSET + 4;
    static final int EXTRA_DEVICES_LIMIT = 0xffff;

    public static final int COMPAT_SB_CHKSUM = 0x1;
    /** Set by Nydus on RAFS v6 images; the kernel does not look at it. */
    public static final int COMPAT_RAFS_V6 = 0x40000000;

    /** Shared with COMPR_HEAD2: the table counts only where {@link #extraDevices} is not 0 too. */
    public static final int INCOMPAT_DEVICE_TABLE = 0x8;

    /** Compressed data end with their block, and zeros are before them. */
    public static final int INCOMPAT_ZERO_PADDING = 0x1;

    public static final int INCOMPAT_COMPR_CFGS = 0x2;
    public static final int INCOMPAT_ZTAILPACKING = 0x10;
    public static final int INCOMPAT_CHUNKED_FILE = 0x4;
    public static final int INCOMPAT_FRAGMENTS = 0x20;
    public static final int INCOMPAT_48BIT = 0x80;
    public static final int INCOMPAT_METABOX = 0x100;
    /** The long xattr prefixes are not in the packed inode but in the image itself. */
    public static final int COMPAT_PLAIN_XATTR_PFX = 0x10;

    /** The shared xattrs are in the metabox inode. */
    public static final int COMPAT_SHARED_EA_IN_METABOX = 0x8;

    /** What Linux 7.2 refuses to mount: every bit above METABOX. */
    private static final int INCOMPAT_UNKNOWN = ~0x1ff;

    private static final List<String> INCOMPAT_NAMES = List.of(
            "lz4-0padding",
            "compr-cfgs",
            "chunked-file",
            "device-table",
            "ztailpacking",
            "fragments",
            "xattr-prefixes",
            "48bit",
            "metabox");
    private static final List<String> COMPAT_NAMES =
            List.of("sb-chksum", "mtime", "xattr-filter", "shared-ea-in-metabox", "plain-xattr-pfx", "ishare-xattrs");

    /** Reads the superblock of {@code image} and proves its checksum. */
    public static Superblock read(Source image) throws IOException {
        byte[] head = head(image);
        if (!present(head)) {
            throw new ImageException(
                    image.name(),
                    "superblock.magic",
                    head.length < OFFSET + BYTES
                            ? "missing in a file of " + image.size() + " bytes"
                            : "0x%08x".formatted(le(head).getInt(OFFSET)) + encodingOf(image),
                    "0x%08x at byte %d, an EROFS image".formatted(MAGIC, OFFSET));
        }
        return parse(image.name(), head);
    }

    private static String encodingOf(Source image) throws IOException {
        return Encoding.of(image)
                .map(e -> " in a file of " + e.title() + "-compressed data")
                .orElse("");
    }

    /** Reads the superblock of {@code image} if it is an EROFS image at all. */
    public static Optional<Superblock> find(Source image) throws IOException {
        byte[] head = head(image);
        return present(head) ? Optional.of(parse(image.name(), head)) : Optional.empty();
    }

    private static byte[] head(Source image) throws IOException {
        return bytes(image, 0, (int) Math.min(image.size(), 65536));
    }

    static byte[] bytes(Source source, long offset, int length) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment segment = arena.allocate(Math.max(1, length)).asSlice(0, length);
            source.read(offset, segment);
            return segment.toArray(JAVA_BYTE);
        }
    }

    private static boolean present(byte[] head) {
        return head.length >= OFFSET + BYTES && le(head).getInt(OFFSET) == MAGIC;
    }

    static ByteBuffer le(byte[] bytes) {
        return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }

    /**
     * Reads the superblock of an image whose first bytes are given.
     *
     * @param file what refusals name
     * @param head the image's first 64 KiB, or all of it if it is shorter
     */
    public static Superblock parse(String file, byte[] head) throws ImageException {
        if (!present(head)) {
            throw new ImageException(file, "superblock.magic", "missing", "0x%08x".formatted(MAGIC));
        }
        ByteBuffer sb = le(head).slice(OFFSET, head.length - OFFSET).order(ByteOrder.LITTLE_ENDIAN);
        int blockBits = sb.get(12) & 0xff;
        if (blockBits < 9 || blockBits > 16) {
            throw new ImageException(file, "superblock.blkszbits", blockBits, "9 to 16");
        }
        int compat = sb.getInt(8);
        if ((compat & COMPAT_SB_CHKSUM) != 0) {
            long stored = Integer.toUnsignedLong(sb.getInt(4));
            long computed = checksum(file, head, 1 << blockBits);
            if (stored != computed) {
                throw new ImageException(
                        file,
                        "superblock.checksum",
                        "0x%08x".formatted(stored),
                        "0x%08x, the crc32c of its block".formatted(computed));
            }
        }
        int incompat = sb.getInt(80);
        if ((incompat & INCOMPAT_UNKNOWN) != 0) {
            throw new ImageException(
                    file, "superblock.feature_incompat", "0x%x".formatted(incompat), "no bit above 0x1ff");
        }
        if (sb.get(90) != 0) {
            throw new ImageException(file, "superblock.dirblkbits", sb.get(90) & 0xff, "0");
        }
        int extSlots = sb.get(13) & 0xff;
        long rootNid8 = sb.getLong(112);
        boolean wide = (incompat & INCOMPAT_48BIT) != 0 && rootNid8 != 0;
        long blocks = Integer.toUnsignedLong(sb.getInt(36)) | (wide ? (sb.getShort(14) & 0xffffL) << 32 : 0);
        byte[] uuid = new byte[16];
        sb.get(48, uuid);
        byte[] name = new byte[16];
        sb.get(64, name);
        return new Superblock(
                compat,
                incompat,
                blockBits,
                extSlots,
                blocks,
                wide ? rootNid8 : sb.getShort(14) & 0xffff,
                sb.getLong(16),
                sb.getLong(24),
                sb.getInt(32),
                Integer.toUnsignedLong(sb.getInt(40)),
                Integer.toUnsignedLong(sb.getInt(44)),
                HexFormat.of().formatHex(uuid),
                new String(name, StandardCharsets.UTF_8).replaceAll("\0.*", ""),
                sb.getShort(84) & 0xffff,
                (incompat & INCOMPAT_DEVICE_TABLE) != 0 ? sb.getShort(86) & 0xffff : 0,
                (sb.getShort(88) & 0xffff) * 128,
                sb.get(91) & 0xff,
                Integer.toUnsignedLong(sb.getInt(92)) * 4,
                sb.getLong(96),
                extSlots >= 1 && sb.limit() >= 136 ? sb.getLong(128) : 0);
    }

    /**
     * The checksum of an image's head: crc32c without the final inversion, over the superblock's block from behind the
     * checksum field on, the state being seeded with the magic and a zero checksum (fs/erofs/super.c,
     * erofs_superblock_csum_verify; the seed 0x5045B54A is the state after those 8 bytes).
     *
     * <p>Blocks of more than 1024 bytes begin at byte 0 of the image and the part before byte 1024 is left out; smaller
     * ones begin at the superblock.
     */
    static long checksum(String file, byte[] head, int blockSize) throws ImageException {
        int length = (blockSize > OFFSET ? blockSize - OFFSET : blockSize) - 8;
        int start = CHECKSUM_AT + 4;
        if (head.length < start + length) {
            throw new ImageException(
                    file,
                    "size",
                    head.length + " bytes",
                    "at least the " + (start + length) + " bytes of its checksum");
        }
        CRC32C crc = new CRC32C();
        crc.update(ByteBuffer.allocate(8)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putInt(MAGIC)
                .putInt(0)
                .flip());
        crc.update(head, start, length);
        return crc.getValue() ^ 0xffffffffL;
    }

    /** Bytes of a block: 512 to 65536. */
    public int blockSize() {
        return 1 << blockBits;
    }

    /** Bytes of {@code blocks} blocks, which are few enough for a device. */
    public long bytes(long blocks) {
        return blocks << blockBits;
    }

    /**
     * How many bytes from the image's first on are metadata: all of it, or where blobs follow what the superblock
     * counts. RAFS v6 counts its blobs there, so that only the file's own size tells.
     *
     * @param fileSize bytes of the metadata file
     */
    public long primaryBytes(long fileSize) {
        return extraDevices == 0 || isRafs() ? fileSize : bytes(blocks);
    }

    /** Whether the data are raw tars: only their index has blocks of a sector and chunks without the feature's bit. */
    public boolean isTarIndex() {
        return blockBits == 9 && extraDevices > 0 && (featureIncompat & INCOMPAT_CHUNKED_FILE) == 0 && !isRafs();
    }

    /** Whether inodes are in an inode of their own, compressed: Linux 7.2 reads them, this project's reader does not. */
    public boolean hasMetabox() {
        return (featureIncompat & INCOMPAT_METABOX) != 0;
    }

    public boolean isRafs() {
        return (featureCompat & COMPAT_RAFS_V6) != 0;
    }

    public boolean is48Bit() {
        return (featureIncompat & INCOMPAT_48BIT) != 0;
    }

    public boolean hasChecksum() {
        return (featureCompat & COMPAT_SB_CHKSUM) != 0;
    }

    /** The features by name, those that a kernel must know first. */
    public List<String> features() {
        List<String> names = new ArrayList<>();
        for (int bit = 0; bit < INCOMPAT_NAMES.size(); bit++) {
            if ((featureIncompat & 1 << bit) != 0) {
                // 0x8 is two features: without devices it says that a second compression algorithm is in use
                boolean head2 = 1 << bit == INCOMPAT_DEVICE_TABLE && extraDevices == 0;
                names.add(head2 ? "compr-head2" : INCOMPAT_NAMES.get(bit));
            }
        }
        for (int bit = 0; bit < COMPAT_NAMES.size(); bit++) {
            if ((featureCompat & 1 << bit) != 0) {
                names.add(COMPAT_NAMES.get(bit));
            }
        }
        if (isRafs()) {
            names.add("rafs-v6");
        }
        return names;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Fields;
import java.nio.ByteBuffer;
import java.util.Set;
import java.util.UUID;

/**
 * The footer of a VHD: its last 512 bytes, and in all but fixed disks its first as well.
 *
 * <pre>
 *   @0  "conectix"          @8  u32 features, bit 1 always set   @12 u32 version 0x00010000
 *   @16 u64 data offset (of the dynamic header)                  @24 u32 seconds since 2000
 *   @28 creator application @32 its version   @36 creator host   @40 u64 original size
 *   @48 u64 current size    @56 u16 cylinders, u8 heads, u8 sectors per track
 *   @60 u32 disk type       @64 u32 checksum  @68 UUID           @84 u8 saved state
 * </pre>
 *
 * @param dataOffset byte of the dynamic header; of no meaning in a fixed disk
 * @param creator the creator application, four characters
 * @param currentSize bytes, a positive multiple of 512
 * @param cylinders with {@code heads} and {@code sectors} the geometry that the guest sees
 * @param savedState whether a virtual machine was suspended with this disk
 */
record Footer(
        long dataOffset,
        String creator,
        long currentSize,
        int cylinders,
        int heads,
        int sectors,
        Type type,
        UUID uuid,
        boolean savedState) {
    static final String COOKIE = "conectix";
    static final int BYTES = 512;
    static final int VERSION = 0x00010000;
    static final int CHECKSUM_AT = 64;
    /** Bit 0, "temporary", changes nothing; bit 1 is reserved and always set. */
    static final int FEATURE_RESERVED = 2;

    static final int MAX_CYLINDERS = 65535;
    static final int MAX_HEADS = 16;
    static final int MAX_SECTORS = 255;

    /**
     * Who means the current size and writes the geometry for form's sake: Hyper-V, QEMU with force_size, disk2vhd and
     * XenServer's two, as in QEMU (facts/vmdisk.md §0.9), and VirtualBox, whose geometry ends at 8 GB.
     */
    private static final Set<String> SIZE_COUNTS = Set.of("win ", "qem2", "d2v ", "CTXS", "tap\0", "vbox");

    /** Kinds of disks. */
    enum Type {
        FIXED,
        DYNAMIC,
        DIFFERENCING
    }

    /** Whether these 512 bytes have the cookie and the right checksum of a footer. */
    static boolean whole(Fields footer) {
        return wrong(footer).isEmpty();
    }

    /** Why these bytes are no footer; empty if they are one. */
    static String wrong(Fields footer) {
        if (!footer.has(0, COOKIE)) {
            return "no cookie";
        }
        return checksum(footer.bytes(), CHECKSUM_AT) == footer.u32(CHECKSUM_AT) ? "" : "a wrong checksum";
    }

    /** The complement of the sum of all bytes outside the checksum's own four. */
    static long checksum(ByteBuffer structure, int field) {
        int sum = 0;
        for (int i = 0; i < structure.capacity(); i++) {
            if (i < field || i >= field + 4) {
                sum += structure.get(i) & 0xff;
            }
        }
        return ~sum & 0xffffffffL;
    }

    /** The fields of a footer that is {@linkplain #whole whole}. */
    static Footer parse(Fields footer) throws ImageException {
        long features = footer.u32(8);
        if ((features & ~1) != FEATURE_RESERVED) {
            throw footer.refuse("features", "0x" + Long.toHexString(features), "bit 1 and perhaps bit 0");
        }
        if (footer.u32(12) != VERSION) {
            throw footer.refuse("version", "0x" + Long.toHexString(footer.u32(12)), "0x10000");
        }
        long currentSize = footer.u64(48);
        if (currentSize <= 0 || currentSize % 512 != 0) {
            throw footer.refuse("current size", currentSize, "a multiple of 512 above 0");
        }
        int savedState = footer.bytes().get(84);
        if (savedState != 0 && savedState != 1) {
            throw footer.refuse("saved state", savedState, "0 or 1");
        }
        Type type = switch ((int) footer.u32(60)) {
            case 2 -> Type.FIXED;
            case 3 -> Type.DYNAMIC;
            case 4 -> Type.DIFFERENCING;
            default -> throw footer.refuse("disk type", footer.u32(60), "2, 3 or 4");
        };
        return new Footer(
                footer.u64(16),
                footer.word(28, 4),
                currentSize,
                footer.u16(56),
                footer.bytes().get(58) & 0xff,
                footer.bytes().get(59) & 0xff,
                type,
                new UUID(footer.u64(68), footer.u64(76)),
                savedState == 1);
    }

    /**
     * The bytes of the disk: its current size or, for old creators, what their geometry makes of it, which is up to a
     * cylinder less.
     *
     * @throws ImageException if the geometry is farther off than that
     */
    long size(Fields footer) throws ImageException {
        boolean fullGeometry = cylinders == MAX_CYLINDERS && heads == MAX_HEADS && sectors == MAX_SECTORS;
        if (SIZE_COUNTS.contains(creator) || fullGeometry) {
            return currentSize;
        }
        long cylinder = 512L * heads * sectors;
        long size = cylinder * cylinders;
        if (size == 0 || size > currentSize || currentSize - size >= cylinder) {
            throw footer.refuse(
                    "disk geometry",
                    "%d/%d/%d, %d bytes".formatted(cylinders, heads, sectors, size),
                    "the current size of %d bytes in whole cylinders".formatted(currentSize));
        }
        return size;
    }
}

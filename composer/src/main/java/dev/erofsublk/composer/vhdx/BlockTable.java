// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Claims;
import dev.erofsublk.composer.disk.Fields;
import dev.erofsublk.composer.disk.Fragments;
import dev.erofsublk.composer.disk.SectorBitmap;
import java.io.IOException;
import java.nio.ByteOrder;
import org.jspecify.annotations.Nullable;

/**
 * The block allocation table: from it to extents.
 *
 * <pre>
 *   one chunk is R payload entries and the entry of its sector bitmap block:
 *   | P0 | P1 | … | P(R-1) | B0 | PR | … | P(2R-1) | B1 | …        R = 2^23 × sector size / block size
 *   entry, u64: bits 0-2 state, bits 3-19 reserved, bits 20-63 file offset in MiB
 * </pre>
 *
 * <p>The table is read once, front to back, a few chunks at a time: memory depends on what is allocated only.
 */
final class BlockTable {
    private static final int NOT_PRESENT = 0;
    private static final int UNDEFINED = 1;
    private static final int ZERO = 2;
    private static final int UNMAPPED = 3;
    private static final int UNMAPPED_V095 = 5;
    private static final int FULLY_PRESENT = 6;
    private static final int PARTIALLY_PRESENT = 7;
    private static final int ENTRY_BYTES = 8;
    private static final int READ_BYTES = 1 << 20;
    private static final long STATE_MASK = 7;
    private static final long RESERVED_MASK = 0xffff8;
    private static final long OFFSET_MASK = -1L << 20;

    private final FlatImage file;
    private final String name;
    private final Metadata metadata;
    private final @Nullable FlatImage parent;
    private final Claims claims;
    private final Fragments fragments;
    private final FlatImage.Builder out;

    private BlockTable(FlatImage file, String name, Metadata metadata, @Nullable FlatImage parent, Claims claims) {
        this.file = file;
        this.name = name;
        this.metadata = metadata;
        this.parent = parent;
        this.claims = claims;
        fragments = new Fragments(name);
        out = FlatImage.builder(metadata.sectorSize());
    }

    /**
     * Lays out the disk.
     *
     * @param parent the parent's disk, if the image is differencing
     * @param claims of all else in the file; the blocks are added and everything is proved to be apart
     */
    static FlatImage flatten(
            FlatImage file,
            String name,
            RegionTable.Region region,
            Metadata metadata,
            @Nullable FlatImage parent,
            Claims claims)
            throws IOException {
        BlockTable table = new BlockTable(file, name, metadata, parent, claims);
        table.walk(region);
        claims.check();
        return table.out.build();
    }

    private void walk(RegionTable.Region region) throws IOException {
        int chunk = metadata.chunkRatio() + 1;
        long blocks = metadata.blocks();
        long chunks = (blocks + metadata.chunkRatio() - 1) / metadata.chunkRatio();
        long needed = parent == null ? blocks + (blocks - 1) / metadata.chunkRatio() : chunks * chunk;
        long present = region.length() / ENTRY_BYTES;
        if (needed > present) {
            throw new ImageException(
                    name, "BAT region.Length", region.length(), "room for " + needed + " entries of 8 bytes");
        }
        int step = Math.max(1, READ_BYTES / ENTRY_BYTES / chunk) * chunk;
        for (long first = 0; first < present; first += step) {
            int count = (int) Math.min(step, present - first);
            Fields entries = Fields.read(
                    file,
                    name,
                    "BAT",
                    region.offset() + first * ENTRY_BYTES,
                    count * ENTRY_BYTES,
                    ByteOrder.LITTLE_ENDIAN);
            for (int at = 0; at < count; at += chunk) {
                chunk(entries, first + at, at, Math.min(chunk, count - at));
            }
        }
    }

    /**
     * One chunk.
     *
     * @param number of its first entry in the table
     * @param at of its first entry in {@code entries}
     * @param count entries: R + 1, or fewer where the table ends
     */
    private void chunk(Fields entries, long number, int at, int count) throws IOException {
        int ratio = metadata.chunkRatio();
        long bitmapBlock = -1;
        if (parent != null && count > ratio && out.size() < metadata.size()) {
            bitmapBlock = bitmapBlock(entries.u64((at + ratio) * ENTRY_BYTES), number + ratio);
        }
        for (int i = 0; i < Math.min(ratio, count); i++) {
            long entry = entries.u64((at + i) * ENTRY_BYTES);
            long length = Math.min(metadata.blockSize(), metadata.size() - out.size());
            if (length == 0) {
                refuseAllocated(entry, number + i);
            } else if (parent == null) {
                plain(entry, number + i, length);
            } else {
                differencing(entry, number + i, length, bitmapBlock, i);
            }
        }
    }

    private void plain(long entry, long number, long length) throws ImageException {
        switch (state(entry, number)) {
            case NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, UNMAPPED_V095 -> out.zeros(length);
            case FULLY_PRESENT -> out.append(length, file, payload(entry, number));
            default -> throw refuse(number, "state", entry & STATE_MASK, "0, 1, 2, 3 or 6 without a parent");
        }
        fragments.bound(out);
    }

    private void differencing(long entry, long number, long length, long bitmapBlock, int blockOfChunk)
            throws IOException {
        switch (state(entry, number)) {
            case NOT_PRESENT -> fromParent(length);
            case UNDEFINED, ZERO, UNMAPPED, UNMAPPED_V095 -> out.zeros(length);
            case FULLY_PRESENT -> out.append(length, file, payload(entry, number));
            case PARTIALLY_PRESENT -> {
                if (bitmapBlock < 0) {
                    throw refuse(number, "state", PARTIALLY_PRESENT, "another one where there is no sector bitmap");
                }
                long payload = payload(entry, number);
                int sector = metadata.sectorSize();
                int bytes = metadata.blockSize() / sector / 8;
                byte[] bits = Fields.read(file, bitmapBlock + (long) blockOfChunk * bytes, bytes);
                SectorBitmap.leastSignificantFirst(bits).runs((int) (length / sector), (here, first, sectors) -> {
                    long run = (long) sectors * sector;
                    if (here) {
                        out.append(run, file, payload + (long) first * sector);
                    } else {
                        fromParent(run);
                    }
                });
            }
            default -> throw refuse(number, "state", entry & STATE_MASK, "0, 1, 2, 3, 6 or 7");
        }
        fragments.bound(out);
    }

    /** The parent's bytes; zeros where the child was made larger than it. */
    private void fromParent(long length) {
        if (parent != null) {
            long theirs = Math.clamp(parent.size() - out.size(), 0, length);
            out.append(theirs, parent, theirs == 0 ? 0 : out.size());
            out.zeros(length - theirs);
        }
    }

    private static int state(long entry) {
        return (int) (entry & STATE_MASK);
    }

    private int state(long entry, long number) throws ImageException {
        if ((entry & RESERVED_MASK) != 0) {
            throw refuse(number, "reserved bits", "0x" + Long.toHexString(entry & RESERVED_MASK), "0");
        }
        return state(entry);
    }

    private long payload(long entry, long number) throws ImageException {
        long offset = place(entry, number, metadata.blockSize());
        claims.block(offset);
        return offset;
    }

    /** The place of the chunk's sector bitmap block; -1 if it has none. */
    private long bitmapBlock(long entry, long number) throws ImageException {
        return switch (state(entry, number)) {
            case NOT_PRESENT -> -1;
            case FULLY_PRESENT -> {
                long offset = place(entry, number, Header.MIB);
                claims.structure("the sector bitmap of BAT entry " + number, offset, Header.MIB);
                yield offset;
            }
            default -> throw refuse(number, "state", entry & STATE_MASK, "0 or 6 for a sector bitmap block");
        };
    }

    private long place(long entry, long number, long length) throws ImageException {
        long offset = entry & OFFSET_MASK;
        if (offset < Header.SECTION || offset > file.size() - length) {
            throw refuse(
                    number,
                    "FileOffset",
                    Long.toUnsignedString(offset),
                    "room for " + length + " bytes between byte 1048576 and the file's end at byte " + file.size());
        }
        return offset;
    }

    /** A block behind the disk's end tells that the disk's size, or its block size, is not what it was. */
    private void refuseAllocated(long entry, long number) throws ImageException {
        int state = state(entry);
        if (state == FULLY_PRESENT || state == PARTIALLY_PRESENT) {
            throw refuse(number, "state", state, "nothing allocated behind the disk's end");
        }
    }

    private ImageException refuse(long number, String field, Object found, String expected) {
        return new ImageException(name, "BAT entry " + number + "." + field, found, expected);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

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
 * The block allocation table of a dynamic or differencing disk: from it to extents.
 *
 * <p>An entry is the number of the sector at which a block's bitmap begins, with its data behind it, or 0xffffffff. A
 * sector whose bit is 0 is the parent's; in a disk without parent it was never written, which makes it zeros whatever
 * its bytes are (facts/vmdisk.md §2: QEMU and libvhdi hand out those bytes, 7zz refuses).
 *
 * <p>The table is read once, front to back: memory depends on what is allocated only.
 */
final class BlockTable {
    private static final long UNUSED = 0xffffffffL;
    private static final int SECTOR = FlatImage.SECTOR;
    private static final int ENTRIES_PER_READ = 1 << 18;

    private final FlatImage file;
    private final String name;
    private final Footer footer;
    private final DynamicHeader header;
    private final @Nullable FlatImage parent;
    private final long size;
    private final long end;
    private final Claims claims;
    private final Fragments fragments;
    private final FlatImage.Builder out = FlatImage.builder(SECTOR);

    /**
     * @param parent the parent's disk, of at least {@code size} bytes, if the image is differencing
     * @param size bytes of the disk
     * @param end the byte of the file at which its footer begins
     */
    BlockTable(
            FlatImage file,
            String name,
            Footer footer,
            DynamicHeader header,
            @Nullable FlatImage parent,
            long size,
            long end) {
        this.file = file;
        this.name = name;
        this.footer = footer;
        this.header = header;
        this.parent = parent;
        this.size = size;
        this.end = end;
        fragments = new Fragments(name);
        claims = new Claims(name, header.bitmapBytes() + (long) header.blockSize());
    }

    /** Blocks that have a place in the file; known after {@link #flatten}. */
    int allocatedBlocks() {
        return claims.blocks();
    }

    /** Lays out the disk and proves that nothing in the file overlaps. */
    FlatImage flatten() throws IOException {
        if ((long) header.entries() * header.blockSize() < footer.currentSize()) {
            throw new ImageException(
                    name,
                    "dynamic header.max table entries",
                    header.entries(),
                    "enough of %d bytes each for %d bytes".formatted(header.blockSize(), footer.currentSize()));
        }
        long tableBytes = 4L * header.entries();
        claims.structure("the footer's copy", 0, Footer.BYTES);
        claims.structure("the footer", end, file.size() - end);
        claims.structure("the dynamic header", footer.dataOffset(), DynamicHeader.BYTES);
        try (Bitmaps bitmaps = new Bitmaps(file, header.bitmapBytes(), header.entries())) {
            entries(bitmaps);
        }
        claims.structure("the BAT", header.tableOffset(), tableBytes);
        claims.check();
        return out.build();
    }

    private void entries(Bitmaps bitmaps) throws IOException {
        for (long first = 0; first < header.entries(); first += ENTRIES_PER_READ) {
            int count = (int) Math.min(ENTRIES_PER_READ, header.entries() - first);
            Fields entries =
                    Fields.read(file, name, "BAT", header.tableOffset() + 4 * first, 4 * count, ByteOrder.BIG_ENDIAN);
            for (int at = 0; at < count; ) {
                at += entries(bitmaps, entries, first, at, count);
            }
        }
    }

    /** Takes entries from {@code at} on, as many as there is room for their bitmaps; returns how many. */
    private int entries(Bitmaps bitmaps, Fields entries, long first, int at, int count) throws IOException {
        long[] offsets = new long[Math.min(bitmaps.atOnce(), count - at)];
        int allocated = 0;
        int end = at;
        for (; end < count && allocated < offsets.length; end++) {
            long entry = entries.u32(4 * end);
            if (entry != UNUSED) {
                offsets[allocated++] = entry * SECTOR;
            }
        }
        bitmaps.load(offsets, allocated);
        int used = 0;
        for (int i = at; i < end; i++) {
            long entry = entries.u32(4 * i);
            entry(entry, first + i, bitmaps, entry == UNUSED ? -1 : used++);
        }
        return end - at;
    }

    /** @param bitmap which of those loaded last is the block's */
    private void entry(long entry, long number, Bitmaps bitmaps, int bitmap) throws IOException {
        long length = Math.min(header.blockSize(), size - out.size());
        if (length == 0) {
            // Table entries that the disk does not need are never looked at by anyone: many writers leave zeros.
            if (entry != UNUSED && entry != 0 && number * header.blockSize() >= footer.currentSize()) {
                throw refuse(number, entry, "no block behind the disk's end");
            }
        } else if (entry == UNUSED) {
            absent(length);
        } else {
            block(entry * SECTOR, length, number, bitmaps, bitmap);
        }
    }

    private void block(long offset, long length, long number, Bitmaps bitmaps, int bitmap) throws IOException {
        long data = offset + header.bitmapBytes();
        if (data + header.blockSize() > end) {
            throw refuse(number, offset / SECTOR, "a block that ends before byte %d of the file".formatted(end));
        }
        claims.block(offset);
        switch (bitmaps.kind(bitmap)) {
            case ALL -> out.append(length, file, data);
            case NONE -> absent(length);
            case MIXED -> sectors(SectorBitmap.mostSignificantFirst(bitmaps.bits(bitmap)), length, data);
        }
        fragments.bound(out);
    }

    private void sectors(SectorBitmap bits, long length, long data) throws IOException {
        bits.runs((int) (length / SECTOR), (here, firstSector, sectors) -> {
            long run = (long) sectors * SECTOR;
            if (here) {
                out.append(run, file, data + (long) firstSector * SECTOR);
            } else {
                absent(run);
            }
        });
    }

    private void absent(long length) {
        if (parent == null) {
            out.zeros(length);
        } else {
            out.append(length, parent, out.size());
        }
    }

    private ImageException refuse(long number, long entry, String expected) {
        return new ImageException(name, "BAT entry " + number, entry, expected);
    }
}

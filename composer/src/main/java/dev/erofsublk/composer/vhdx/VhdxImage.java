// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Chain;
import dev.erofsublk.composer.disk.Claims;
import dev.erofsublk.composer.disk.Fields;
import java.io.IOException;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * A VHDX image, with its parents if it is differencing.
 *
 * <p>A log that was left behind is replayed into memory; the file is opened for reading and never changed.
 */
public final class VhdxImage implements Image {
    /** The word at byte 0 of every VHDX file. */
    public static final String SIGNATURE = "vhdxfile";

    private final Blob blob;
    private final Header header;
    private final RegionTable regions;
    private final Metadata metadata;
    private final int replayedEntries;
    private final int allocatedBlocks;
    private final @Nullable VhdxImage parent;
    private final FlatImage flat;

    private VhdxImage(
            Blob blob,
            Header header,
            RegionTable regions,
            Metadata metadata,
            int replayedEntries,
            int allocatedBlocks,
            @Nullable VhdxImage parent,
            FlatImage flat) {
        this.blob = blob;
        this.header = header;
        this.regions = regions;
        this.metadata = metadata;
        this.replayedEntries = replayedEntries;
        this.allocatedBlocks = allocatedBlocks;
        this.parent = parent;
        this.flat = flat;
    }

    /**
     * Opens an image and the parents that it names, and checks all of their structures.
     *
     * @param confinement where the parents may lie
     * @throws ImageException if one of them is damaged, not supported or not the right one
     * @throws IOException if one cannot be read
     */
    public static VhdxImage open(Path path, Confinement confinement) throws IOException {
        return open(Blob.open(path), confinement, new Chain());
    }

    /** Takes over {@code blob}: closes it on failure, and with the image otherwise. */
    private static VhdxImage open(Blob blob, Confinement confinement, Chain chain) throws IOException {
        try {
            chain.add(blob);
            return read(blob, confinement, chain);
        } catch (IOException | RuntimeException e) {
            blob.close();
            throw e;
        }
    }

    private static VhdxImage read(Blob blob, Confinement confinement, Chain chain) throws IOException {
        String name = blob.name();
        if (blob.size() < Header.SECTION) {
            throw new ImageException(name, "size", blob.size(), "at least 1 MiB, the header section");
        }
        FlatImage raw = FlatImage.builder(FlatImage.SECTOR)
                .append(blob.size() & -FlatImage.SECTOR, blob, 0)
                .build();
        Fields identifier = Fields.read(raw, name, "file type identifier", 0, 8, ByteOrder.LITTLE_ENDIAN);
        if (!identifier.has(0, SIGNATURE)) {
            throw identifier.refuse("Signature", "\"" + identifier.word(0, 8) + "\"", "\"" + SIGNATURE + "\"");
        }
        Header header = Header.choose(raw, name);
        List<LogEntry> entries = header.dirty() ? Log.active(raw, name, header) : List.of();
        FlatImage file = entries.isEmpty() ? raw : Replay.apply(raw, name, header, entries);
        RegionTable regions = RegionTable.read(file, name);
        Metadata metadata = Metadata.read(file, name, regions.region(RegionTable.METADATA));
        Claims claims = new Claims(name, metadata.blockSize());
        regions.claim(claims, header);

        VhdxImage parent = metadata.parent() == null ? null : openParent(blob, metadata, confinement, chain);
        try {
            FlatImage flat = BlockTable.flatten(
                    file, name, regions.region(RegionTable.BAT), metadata, parent == null ? null : parent.flat, claims);
            return new VhdxImage(blob, header, regions, metadata, entries.size(), claims.blocks(), parent, flat);
        } catch (IOException | RuntimeException e) {
            if (parent != null) {
                parent.close();
            }
            throw e;
        }
    }

    /** Tries the paths of the locator in their order; the first that is the parent wins. */
    private static VhdxImage openParent(Blob child, Metadata metadata, Confinement confinement, Chain chain)
            throws IOException {
        ParentLocator locator = metadata.parent();
        if (locator == null) {
            throw new IllegalArgumentException("not a child: " + child.name());
        }
        ImageException first = null;
        for (String reference : locator.references()) {
            Blob blob;
            try {
                blob = confinement.open(child.path(), reference);
            } catch (ImageException e) {
                first = first == null ? e : first;
                continue;
            }
            VhdxImage parent = open(blob, confinement, chain);
            ImageException wrong = wrongParent(parent, metadata, locator);
            if (wrong == null) {
                return parent;
            }
            parent.close();
            throw wrong;
        }
        throw first != null ? first : new ImageException(child.name(), "parent locator", "empty", "a path");
    }

    private static @Nullable ImageException wrongParent(VhdxImage parent, Metadata metadata, ParentLocator locator) {
        if (!locator.linkages().contains(parent.header.dataWriteGuid())) {
            return new ImageException(
                    parent.blob.name(),
                    "header.DataWriteGuid",
                    "{" + parent.header.dataWriteGuid() + "}",
                    "the parent linkage of the child, " + locator.linkages());
        }
        if (parent.metadata.sectorSize() != metadata.sectorSize()) {
            return new ImageException(
                    parent.blob.name(),
                    "logical sector size",
                    parent.metadata.sectorSize(),
                    "that of the child, " + metadata.sectorSize());
        }
        return null;
    }

    @Override
    public String format() {
        return "vhdx";
    }

    @Override
    public FlatImage flat() {
        return flat;
    }

    @Override
    public void describe(Description description) {
        for (VhdxImage image = this; image != null; image = image.parent) {
            Map<String, Object> row = description.row("vhdx");
            row.put("file", image.blob.name());
            row.put("kind", image.kind());
            row.put("virtual_size", image.metadata.size());
            row.put("block_size", image.metadata.blockSize());
            row.put("allocated_blocks", image.allocatedBlocks);
            row.put("logical_sector_size", image.metadata.sectorSize());
            row.put("physical_sector_size", image.metadata.physicalSectorSize());
            row.put("header", image.header.number());
            row.put("region_table", image.regions.copy());
            row.put("replayed_log_entries", image.replayedEntries);
            row.put("disk_id", image.metadata.diskId().toString());
            row.put("data_write_guid", image.header.dataWriteGuid().toString());
        }
    }

    private String kind() {
        return parent != null ? "differencing" : metadata.leaveAllocated() ? "fixed" : "dynamic";
    }

    /** Closes the file even if no byte of it is on the device, and the parents. */
    @Override
    public void close() {
        flat.close();
        blob.close();
        if (parent != null) {
            parent.close();
        }
    }
}

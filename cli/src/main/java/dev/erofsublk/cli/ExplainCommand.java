// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.Zeros;
import dev.erofsublk.composer.erofs.DeviceSlot;
import dev.erofsublk.composer.erofs.Superblock;
import dev.erofsublk.composer.erofs.fs.ErofsFileSystem;
import dev.erofsublk.composer.erofs.fs.FileExtent;
import dev.erofsublk.composer.erofs.fs.Inode;
import dev.erofsublk.composer.erofs.fs.ReverseIndex;
import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Says to which layer and file a sector belongs, or where on the device a file is. */
final class ExplainCommand extends Command {
    private final SourceOptions source = new SourceOptions(this);

    private final Option<Boolean> json = flag("--json", "JSON instead of text.");

    private final Option<Long> sector =
            option("--sector", Long.class, "N", "Sector of 512 bytes, as in kernel messages.");

    private final Option<String> path = option("--path", String.class, "P", "Path from the image's root.");

    ExplainCommand() {
        super("explain", "Say to which layer and file a sector belongs, or where a file is.");
        oneOf(sector, path);
    }

    @Override
    public Integer call() throws IOException {
        try (Image image = source.open()) {
            ErofsFileSystem fs = ErofsSource.open(image);
            if (sector.isGiven()) {
                explainSector(fs, sector.given());
            } else {
                explainPath(fs, path.given());
            }
        }
        return 0;
    }

    private void explainSector(ErofsFileSystem fs, long sector) throws IOException {
        FlatImage flat = fs.flat();
        long sectors = flat.size() / FlatImage.SECTOR;
        if (sector < 0 || sector >= sectors) {
            throw new CommandException(
                    "--sector is %d, expected less than %d, the device's".formatted(sector, sectors));
        }
        long offset = sector * FlatImage.SECTOR;
        Map<String, Object> place = place(fs, offset);
        place.put("structures", structures(fs, offset));
        ReverseIndex index = ReverseIndex.build(fs);
        List<Map<String, Object>> files = new ArrayList<>();
        for (ReverseIndex.Hit hit : index.in(offset, offset + FlatImage.SECTOR)) {
            Map<String, Object> row = new LinkedHashMap<>();
            row.put("inode", hit.nid());
            row.put("part", hit.part().name().toLowerCase(Locale.ROOT).replace('_', ' '));
            row.put("file_offset", hit.fileOffset());
            row.put("paths", hit.paths());
            files.add(row);
        }
        print(place, "files", files);
        if (index.skipped() > 0) {
            System.err.println("erofs-ublk: " + index.skipped() + " damaged inodes are left out; see 'verify'");
        }
    }

    private static List<String> structures(ErofsFileSystem fs, long offset) {
        List<String> names = new ArrayList<>();
        Superblock superblock = fs.superblock();
        long end = Superblock.OFFSET + Superblock.BYTES + 16L * superblock.extSlots();
        if (offset < end && offset + FlatImage.SECTOR > Superblock.OFFSET) {
            names.add("superblock");
        }
        for (DeviceSlot slot : fs.slots()) {
            long at = superblock.deviceSlotOffset() + (slot.number() - 1L) * DeviceSlot.BYTES;
            if (at < offset + FlatImage.SECTOR && at + DeviceSlot.BYTES > offset) {
                names.add("device slot " + slot.number());
            }
        }
        return names;
    }

    private void explainPath(ErofsFileSystem fs, String path) throws IOException {
        Inode inode = fs.resolve(path, false).orElseThrow(() -> new CommandException(path + ": no such file"));
        Map<String, Object> head = new LinkedHashMap<>();
        head.put("path", path);
        head.put("inode", inode.nid());
        head.put("inode_byte", inode.offset());
        head.put("type", inode.type().name().toLowerCase(Locale.ROOT).replace('_', ' '));
        head.put("size", inode.size());
        List<Map<String, Object>> rows = new ArrayList<>();
        fs.extents(inode, extent -> rows.addAll(split(fs, extent)));
        print(head, "extents", rows);
    }

    /** A file's extent, cut where another file or layer begins to hold the bytes. */
    private static List<Map<String, Object>> split(ErofsFileSystem fs, FileExtent extent) {
        List<Map<String, Object>> rows = new ArrayList<>();
        if (extent.kind() == FileExtent.Kind.HOLE) {
            Map<String, Object> row = new LinkedHashMap<>();
            row.put("file_offset", extent.fileOffset());
            row.put("length", extent.length());
            row.put("kind", "hole");
            rows.add(row);
            return rows;
        }
        for (long done = 0; done < extent.stored(); ) {
            long at = extent.address() + done;
            Extent part = fs.flat().extent(fs.flat().indexOf(at));
            long length = Math.min(extent.stored() - done, part.end() - at);
            boolean encoded = extent.kind() == FileExtent.Kind.ENCODED;
            Map<String, Object> row = new LinkedHashMap<>();
            row.put("file_offset", encoded ? extent.fileOffset() : extent.fileOffset() + done);
            row.put("length", encoded ? extent.length() : length);
            row.put("kind", extent.kind().name().toLowerCase(Locale.ROOT));
            row.put("device_bytes", length);
            row.putAll(place(fs, at));
            rows.add(row);
            done += length;
        }
        return rows;
    }

    /** Where bytes of the device come from. */
    private static Map<String, Object> place(ErofsFileSystem fs, long offset) {
        Extent extent = fs.flat().extent(fs.flat().indexOf(offset));
        Map<String, Object> place = new LinkedHashMap<>();
        place.put("device_offset", offset);
        place.put("sector", offset / FlatImage.SECTOR);
        place.put("layer", layer(fs, offset));
        place.put("source", extent.source().name());
        if (extent.source() != Zeros.INSTANCE) {
            place.put("source_offset", extent.sourceOffset() + (offset - extent.start()));
        }
        return place;
    }

    private static String layer(ErofsFileSystem fs, long offset) {
        long block = offset >> fs.superblock().blockBits();
        for (DeviceSlot slot : fs.slots()) {
            if (block >= slot.block() && block < slot.endBlock()) {
                return slot.tag().isEmpty()
                        ? "slot " + slot.number()
                        : "slot %d, %s".formatted(slot.number(), slot.tag());
            }
        }
        return fs.slots().isEmpty() || block < fs.superblock().blocks() ? "metadata" : "none";
    }

    private void print(Map<String, Object> head, String name, List<Map<String, Object>> rows) throws IOException {
        if (json.isGiven()) {
            JsonOutput.print(out -> {
                out.beginObject();
                JsonOutput.writeFields(out, head);
                out.name(name).beginArray();
                for (Map<String, Object> row : rows) {
                    JsonOutput.writeRow(out, row);
                }
                out.endArray();
                out.endObject();
            });
            return;
        }
        head.forEach(
                (key, value) -> System.out.printf("  %-14s %s%n", key, LsCommand.printable(TextTable.text(value))));
        System.out.println(name);
        if (rows.isEmpty()) {
            System.out.println("  none");
        } else {
            TextTable.print(rows);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Claims;
import dev.erofsublk.composer.disk.Fields;
import java.io.IOException;
import java.nio.ByteOrder;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.UUID;

/**
 * The items of the metadata region.
 *
 * <pre>
 *   @0 "metadata"  @8 u16 0  @10 u16 EntryCount, at most 2047
 *   @32 entries of 32 bytes: GUID, @16 u32 Offset in the region, @20 u32 Length, @24 u32 flags, @28 u32 0
 *   flags: bit 0 IsUser, bit 1 IsVirtualDisk, bit 2 IsRequired
 * </pre>
 */
final class MetadataTable {
    private static final int BYTES = 64 << 10;
    private static final int MAX_ENTRIES = 2047;
    private static final int MAX_ITEM = 1 << 20;
    private static final int IS_USER = 1;
    private static final int IS_REQUIRED = 4;
    private static final Set<UUID> KNOWN = Set.of(
            Metadata.FILE_PARAMETERS,
            Metadata.VIRTUAL_SIZE,
            Metadata.DISK_ID,
            Metadata.SECTOR_SIZE,
            Metadata.PHYSICAL_SECTOR_SIZE,
            Metadata.PARENT_LOCATOR);

    private final FlatImage file;
    private final String name;
    private final long regionOffset;
    private final Map<UUID, Entry> system = new HashMap<>();

    private record Entry(long offset, int length) {}

    private MetadataTable(FlatImage file, String name, long regionOffset) {
        this.file = file;
        this.name = name;
        this.regionOffset = regionOffset;
    }

    static MetadataTable read(FlatImage file, String name, RegionTable.Region region) throws IOException {
        Fields table = Fields.read(file, name, "metadata table", region.offset(), BYTES, ByteOrder.LITTLE_ENDIAN);
        if (!table.has(0, "metadata")) {
            throw table.refuse("Signature", "\"" + table.word(0, 8) + "\"", "\"metadata\"");
        }
        int count = table.u16(10);
        if (count > MAX_ENTRIES) {
            throw table.refuse("EntryCount", count, "at most " + MAX_ENTRIES);
        }
        MetadataTable items = new MetadataTable(file, name, region.offset());
        Claims claims = new Claims(name, 1);
        Set<Map.Entry<UUID, Boolean>> seen = new HashSet<>();
        for (int i = 0; i < count; i++) {
            int at = 32 + 32 * i;
            UUID id = Guid.at(table.bytes(), at);
            long offset = table.u32(at + 16);
            long length = table.u32(at + 20);
            long flags = table.u32(at + 24);
            boolean user = (flags & IS_USER) != 0;
            String entry = "entry " + i;
            if (flags > 7) {
                throw table.refuse(entry + ".flags", "0x" + Long.toHexString(flags), "none but bits 0 to 2");
            }
            if (!seen.add(Map.entry(id, user))) {
                throw table.refuse(entry + ".ItemId", "{" + id + "} again", "each item once");
            }
            if (length > MAX_ITEM) {
                throw table.refuse(entry + ".Length", length, "at most 1 MiB");
            }
            if (length == 0 ? offset != 0 : offset < BYTES || offset + length > region.length()) {
                throw table.refuse(
                        entry + ".Offset",
                        offset + " of an item of " + length + " bytes",
                        "a place behind the table and inside the region of " + region.length() + " bytes");
            }
            if ((flags & IS_REQUIRED) != 0 && (user || !KNOWN.contains(id))) {
                throw table.refuse(entry + ".ItemId", "an unknown required item {" + id + "}", "a known one");
            }
            claims.structure("metadata item " + i, offset, length);
            if (!user) {
                items.system.put(id, new Entry(offset, (int) length));
            }
        }
        claims.check();
        return items;
    }

    boolean has(UUID id) {
        return system.containsKey(id);
    }

    /**
     * A system item.
     *
     * @param length the bytes that it must have; -1 if any number will do
     */
    Fields item(UUID id, String itemName, int length) throws IOException {
        Entry entry = system.get(id);
        if (entry == null) {
            throw new ImageException(name, "metadata table", "without " + itemName, "one, {" + id + "}");
        }
        if (length >= 0 && entry.length != length) {
            throw new ImageException(name, itemName + ".Length", entry.length, String.valueOf(length));
        }
        return Fields.read(file, name, itemName, regionOffset + entry.offset, entry.length, ByteOrder.LITTLE_ENDIAN);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Claims;
import dev.erofsublk.composer.disk.Fields;
import java.io.IOException;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.UUID;

/**
 * Where the block allocation table and the metadata lie, from the first of the two region tables that is whole.
 *
 * <pre>
 *   @0 "regi"  @4 crc-32c of the 64 KiB with this field 0  @8 u32 EntryCount, at most 2047
 *   @16 entries of 32 bytes: GUID, @16 u64 FileOffset, @24 u32 Length, @28 u32 bit 0 Required
 * </pre>
 *
 * @param copy 1 or 2: which table was used
 * @param regions all of them, known and unknown
 */
record RegionTable(int copy, List<Region> regions) {
    static final UUID BAT = UUID.fromString("2dc27766-f623-4200-9d64-115e9bfd4a08");
    static final UUID METADATA = UUID.fromString("8b7ca206-4790-4b9a-b8fe-575f050f886e");

    private static final long FIRST = 192 << 10;
    private static final long SECOND = 256 << 10;
    private static final int BYTES = 64 << 10;
    private static final int MAX_ENTRIES = 2047;

    /** A range of the file; offset and length are multiples of 1 MiB. */
    record Region(UUID id, long offset, long length) {
        String name() {
            return id.equals(BAT) ? "BAT region" : id.equals(METADATA) ? "metadata region" : "region {" + id + "}";
        }
    }

    static RegionTable read(FlatImage file, String name) throws IOException {
        Fields first = Fields.read(file, name, "region table 1", FIRST, BYTES, ByteOrder.LITTLE_ENDIAN);
        Fields second = Fields.read(file, name, "region table 2", SECOND, BYTES, ByteOrder.LITTLE_ENDIAN);
        boolean useFirst = whole(first);
        boolean useSecond = whole(second);
        if (!useFirst && !useSecond) {
            throw new ImageException(
                    name, "region tables", "damaged, both", "one with signature \"regi\" and its checksum");
        }
        if (useFirst && useSecond && !first.bytes().equals(second.bytes())) {
            // Each is whole by its checksum, so nothing says which one tells the truth.
            throw new ImageException(name, "region tables", "two that differ", "copies of each other");
        }
        return useFirst ? parse(first, 1) : parse(second, 2);
    }

    private static boolean whole(Fields table) {
        return table.has(0, "regi") && Header.checksum(table) == table.u32(4);
    }

    private static RegionTable parse(Fields table, int copy) throws ImageException {
        long count = table.u32(8);
        if (count > MAX_ENTRIES) {
            throw table.refuse("EntryCount", count, "at most " + MAX_ENTRIES);
        }
        List<Region> regions = new ArrayList<>();
        Set<UUID> seen = new HashSet<>();
        for (int i = 0; i < count; i++) {
            int at = 16 + 32 * i;
            UUID id = Guid.at(table.bytes(), at);
            Region region = new Region(id, table.u64(at + 16), table.u32(at + 24));
            long flags = table.u32(at + 28);
            String entry = "entry " + i;
            if (!seen.add(id)) {
                throw table.refuse(entry + ".Guid", region.name(), "each region once");
            }
            if (flags > 1) {
                throw table.refuse(entry + ".Required", flags, "0 or 1");
            }
            if (flags == 1 && !id.equals(BAT) && !id.equals(METADATA)) {
                throw table.refuse(entry + ".Guid", "an unknown required " + region.name(), "BAT or metadata");
            }
            if (region.offset < Header.SECTION || region.offset % Header.MIB != 0) {
                throw table.refuse(entry + ".FileOffset", region.offset, "a multiple of 1 MiB, from 1 MiB on");
            }
            if (region.length == 0 || region.length % Header.MIB != 0) {
                throw table.refuse(entry + ".Length", region.length, "a multiple of 1 MiB above 0");
            }
            if (region.offset > Long.MAX_VALUE - region.length) {
                throw table.refuse(entry + ".FileOffset", region.offset, "an end below 2^63");
            }
            regions.add(region);
        }
        for (UUID needed : List.of(BAT, METADATA)) {
            if (!seen.contains(needed)) {
                throw table.refuse("entries", "without " + new Region(needed, 0, 0).name(), "one");
            }
        }
        return new RegionTable(copy, regions);
    }

    /** The region {@code id}, one of the two that are always there. */
    Region region(UUID id) {
        return regions.stream().filter(r -> r.id.equals(id)).findFirst().orElseThrow();
    }

    /** Claims the header section, the log and all regions. */
    void claim(Claims claims, Header header) {
        claims.structure("the header section", 0, Header.SECTION);
        claims.structure("the log", header.logOffset(), header.logLength());
        regions.forEach(region -> claims.structure(region.name(), region.offset, region.length));
    }
}

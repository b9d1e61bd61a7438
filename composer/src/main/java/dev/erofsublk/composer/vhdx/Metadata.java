// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.disk.Fields;
import java.io.IOException;
import java.util.UUID;
import org.jspecify.annotations.Nullable;

/**
 * What the disk is.
 *
 * @param blockSize bytes, a power of two from 1 to 256 MiB
 * @param leaveAllocated whether the disk is of the fixed kind
 * @param size bytes, a multiple of {@code sectorSize}, at most 64 TiB
 * @param diskId the identity that the disk shows in its SCSI page 83
 * @param sectorSize logical sector in bytes: 512 or 4096
 * @param physicalSectorSize 512 or 4096
 * @param parent where the parent is; null unless the image is differencing
 */
record Metadata(
        int blockSize,
        boolean leaveAllocated,
        long size,
        UUID diskId,
        int sectorSize,
        int physicalSectorSize,
        @Nullable ParentLocator parent) {
    static final UUID FILE_PARAMETERS = UUID.fromString("caa16737-fa36-4d43-b3b6-33f0aa44e76b");
    static final UUID VIRTUAL_SIZE = UUID.fromString("2fa54224-cd1b-4876-b211-5dbed83bf4b8");
    static final UUID DISK_ID = UUID.fromString("beca12ab-b2e6-4523-93ef-c309e000c746");
    static final UUID SECTOR_SIZE = UUID.fromString("8141bf1d-a96f-4709-ba47-f233a8faab5f");
    static final UUID PHYSICAL_SECTOR_SIZE = UUID.fromString("cda348c7-445d-4471-9cc9-e9885251c556");
    static final UUID PARENT_LOCATOR = UUID.fromString("a8d35f2d-b30b-454d-abf7-d3d84834ab0c");

    private static final long MAX_SIZE = 64L << 40;
    private static final int MIN_BLOCK = 1 << 20;
    private static final int MAX_BLOCK = 256 << 20;
    private static final int LEAVE_ALLOCATED = 1;
    private static final int HAS_PARENT = 2;

    static Metadata read(FlatImage file, String name, RegionTable.Region region) throws IOException {
        MetadataTable table = MetadataTable.read(file, name, region);
        Fields parameters = table.item(FILE_PARAMETERS, "file parameters", 8);
        long blockSize = parameters.u32(0);
        if (blockSize < MIN_BLOCK || blockSize > MAX_BLOCK || Long.bitCount(blockSize) != 1) {
            throw parameters.refuse("BlockSize", blockSize, "a power of two from 1 to 256 MiB");
        }
        long flags = parameters.u32(4);
        if (flags > (LEAVE_ALLOCATED | HAS_PARENT)) {
            throw parameters.refuse("flags", "0x" + Long.toHexString(flags), "none but bits 0 and 1");
        }
        int sector = sectorSize(table, SECTOR_SIZE, "logical sector size");
        int physical = sectorSize(table, PHYSICAL_SECTOR_SIZE, "physical sector size");
        Fields virtualSize = table.item(VIRTUAL_SIZE, "virtual disk size", 8);
        long size = virtualSize.u64(0);
        if (size <= 0 || size > MAX_SIZE || size % sector != 0) {
            throw virtualSize.refuse(
                    "VirtualDiskSize", size, "a multiple of " + sector + " from " + sector + " to 64 TiB");
        }
        UUID diskId = Guid.at(table.item(DISK_ID, "virtual disk id", Guid.BYTES).bytes(), 0);
        boolean hasParent = (flags & HAS_PARENT) != 0;
        if (hasParent != table.has(PARENT_LOCATOR)) {
            throw parameters.refuse(
                    "HasParent",
                    hasParent ? 1 : 0,
                    hasParent ? "0 without a parent locator" : "1 with a parent locator");
        }
        ParentLocator parent = hasParent ? ParentLocator.parse(table.item(PARENT_LOCATOR, "parent locator", -1)) : null;
        return new Metadata((int) blockSize, (flags & LEAVE_ALLOCATED) != 0, size, diskId, sector, physical, parent);
    }

    private static int sectorSize(MetadataTable table, UUID id, String name) throws IOException {
        Fields item = table.item(id, name, 4);
        long bytes = item.u32(0);
        if (bytes != 512 && bytes != 4096) {
            throw item.refuse("size", bytes, "512 or 4096");
        }
        return (int) bytes;
    }

    /** Payload blocks of the disk; the last may reach beyond its end. */
    long blocks() {
        return (size + blockSize - 1) / blockSize;
    }

    /** Payload blocks for each sector bitmap block, which has 2^23 bits; a power of two from 16 to 32768. */
    int chunkRatio() {
        return (int) ((1L << 23) * sectorSize / blockSize);
    }
}

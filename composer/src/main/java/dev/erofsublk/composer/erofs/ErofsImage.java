// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.Source;
import java.util.List;
import java.util.Map;

/**
 * A composed EROFS image.
 *
 * @param flat the device
 * @param meta the metadata image
 * @param superblock as it is served, that is, after repairs
 * @param devices the slots as they are served, each with its blob, in the order of the table
 * @param repairs what the served metadata says otherwise than the file, one sentence each
 */
public record ErofsImage(FlatImage flat, Source meta, Superblock superblock, List<Device> devices, List<String> repairs)
        implements Image {

    /**
     * A slot of the device table and what fills it.
     *
     * @param slot as served
     * @param blob the file, or what is decoded from one
     * @param bytes how many of its bytes belong to the slot at most, from its first on
     */
    public record Device(DeviceSlot slot, Source blob, long bytes) {
        /** Bytes of the file behind those of the slot, which are not served: padding of a tar, an appended hash tree. */
        public long cut(int blockBits) {
            return Math.max(0, bytes - (slot.blocks() << blockBits));
        }
    }

    /** Closes the files, also those of which no byte is served. */
    @Override
    public void close() {
        flat.close();
        devices.forEach(device -> device.blob().close());
        meta.close();
    }

    @Override
    public String format() {
        return "erofs";
    }

    @Override
    public void describe(Description description) {
        Map<String, Object> row = description.row("superblock");
        row.put("file", meta.name());
        row.put("block_size", superblock.blockSize());
        row.put("blocks", superblock.blocks());
        row.put("inodes", superblock.inodes());
        row.put("uuid", superblock.uuid());
        row.put("volume_name", superblock.volumeName());
        row.put("build_epoch", superblock.epoch());
        row.put("root_nid", superblock.rootNid());
        row.put("features", superblock.features());
        row.put("extra_devices", superblock.extraDevices());
        for (Device device : devices) {
            Map<String, Object> slot = description.row("slots");
            slot.put("slot", device.slot.number());
            slot.put("block", device.slot.block());
            slot.put("blocks", device.slot.blocks());
            slot.put("tag", device.slot.tag());
            slot.put("bytes_cut", device.cut(superblock.blockBits()));
            slot.put("file", device.blob.name());
        }
        for (String repair : repairs) {
            description.row("repairs").put("repaired", repair);
        }
    }
}

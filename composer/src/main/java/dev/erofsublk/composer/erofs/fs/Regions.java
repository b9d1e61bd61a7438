// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.erofs.DeviceSlot;
import dev.erofsublk.composer.erofs.Superblock;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;

/**
 * The parts of the flat device in which data may lie: the metadata image itself and each slot. What an inode points at
 * lies in one of them and does not cross its end; in between there is nothing that a file could mean.
 *
 * <p>Immutable; in units of blocks.
 */
final class Regions {
    private final String name;
    private final int deviceMask;
    private final long[] slotBlock; // by device id
    private final long[] slotBlocks;
    private final long[] starts; // ascending
    private final long[] ends;

    /**
     * @param slots as the device's own table has them
     * @param deviceBytes bytes of the device
     */
    Regions(String name, Superblock superblock, List<DeviceSlot> slots, long deviceBytes) {
        this.name = name;
        int count = slots.size();
        // fs/erofs/super.c: device_id_mask = roundup_pow_of_two(extra_devices + 1) - 1
        deviceMask = count == 0 ? 0 : (Integer.highestOneBit(count) << 1) - 1;
        slotBlock = new long[count + 1];
        slotBlocks = new long[count + 1];
        long firstSlot = deviceBytes >> superblock.blockBits();
        for (DeviceSlot slot : slots) {
            slotBlock[slot.number()] = slot.block();
            slotBlocks[slot.number()] = slot.blocks();
            firstSlot = Math.min(firstSlot, slot.block());
        }
        List<DeviceSlot> ascending = slots.stream()
                .filter(slot -> slot.blocks() > 0)
                .sorted(Comparator.comparingLong(DeviceSlot::block))
                .toList();
        starts = new long[ascending.size() + 1];
        ends = new long[ascending.size() + 1];
        ends[0] = count == 0 || superblock.isRafs() ? firstSlot : Math.min(firstSlot, superblock.blocks());
        for (int i = 0; i < ascending.size(); i++) {
            starts[i + 1] = ascending.get(i).block();
            ends[i + 1] = ascending.get(i).endBlock();
        }
    }

    /** Blocks of the metadata image. */
    long metadataBlocks() {
        return ends[0];
    }

    /** What of a raw device id counts: the kernel ignores bits above those it needs. */
    int device(int raw) {
        return raw & deviceMask;
    }

    /**
     * The block on the flat device of block {@code block} of device {@code device}, from which on {@code blocks} lie
     * within that device.
     *
     * @param what names the pointer in a refusal
     * @param number completes its name
     */
    long resolve(int device, long block, long blocks, String what, long number, long nid) throws ImageException {
        if (device >= slotBlock.length) {
            throw refused(what, number, nid, "on device " + device, "one of %d".formatted(slotBlock.length - 1));
        }
        if (device > 0) {
            if (block > slotBlocks[device] - blocks) {
                throw refused(
                        what,
                        number,
                        nid,
                        "block %d (+%d) of slot %d".formatted(block, blocks, device),
                        "within its %d blocks".formatted(slotBlocks[device]));
            }
            return slotBlock[device] + block;
        }
        int at = Arrays.binarySearch(starts, block);
        int region = at >= 0 ? at : -at - 2;
        if (region < 0 || block > ends[region] - blocks) {
            throw refused(
                    what, number, nid, "block %d (+%d)".formatted(block, blocks), "within the metadata or one slot");
        }
        return block;
    }

    private ImageException refused(String what, long number, long nid, String found, String expected) {
        return new ImageException(name, "%s %d of inode %d".formatted(what, number, nid), found, expected);
    }
}

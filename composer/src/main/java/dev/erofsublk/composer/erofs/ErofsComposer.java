// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Source;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;

/**
 * Lays a metadata image and the blobs of its device table into one linear space, the one that the kernel addresses
 * when it mounts such an image from a single device ({@code flatdev} in fs/erofs/super.c): the metadata from block 0,
 * each blob from its slot's {@code uniaddr}, zeros between them.
 *
 * <p>The kernel checks none of this at mount: a blob too short, in the wrong place or of the wrong layer gives I/O
 * errors or wrong bytes later. Hence every check is here, before there is a device.
 */
public final class ErofsComposer {
    private final Source meta;
    private final Superblock superblock;
    private final List<DeviceSlot> slots;

    private ErofsComposer(Source meta, Superblock superblock, List<DeviceSlot> slots) {
        this.meta = meta;
        this.superblock = superblock;
        this.slots = slots;
    }

    /**
     * Reads and checks the metadata image, without its blobs. It stays the caller's to close until
     * {@link #compose} has taken it over.
     */
    public static ErofsComposer open(Source meta) throws IOException {
        Superblock superblock = Superblock.read(meta);
        return new ErofsComposer(meta, superblock, DeviceSlot.readAll(meta, superblock));
    }

    public Superblock superblock() {
        return superblock;
    }

    /** The slots as the file has them. */
    public List<DeviceSlot> slots() {
        return slots;
    }

    /**
     * What fills a slot.
     *
     * @param source a file, or what is decoded from one
     * @param bytes how many of its bytes, from the first on, are the device's: what a slot without a length gets
     */
    public record Data(Source source, long bytes) {}

    /** {@link #composeData} with whole files, one for each slot, in the order of the table. */
    public ErofsImage compose(List<Blob> blobs) throws IOException {
        return composeData(blobs.stream().map(b -> new Data(b, b.size())).toList());
    }

    /**
     * Composes the device. On success the image owns {@code meta} and the sources; on failure they stay the caller's.
     *
     * @param blobs one for each slot, in the order of the table
     */
    public ErofsImage composeData(List<Data> blobs) throws IOException {
        if (blobs.size() != slots.size()) {
            throw new ImageException(
                    meta.name(),
                    "superblock.extra_devices",
                    slots.size(),
                    "as many as the blobs given, which are " + blobs.size());
        }
        DeviceChecks checks = new DeviceChecks(meta, superblock, slots);
        checks.primary();
        List<String> repairs = new ArrayList<>();
        List<ErofsImage.Device> devices = place(blobs, checks, repairs);
        for (ErofsImage.Device device : devices) {
            checks.device(device);
        }
        checks.distinct(devices);
        List<ErofsImage.Device> ascending = devices.stream()
                .filter(d -> d.slot().blocks() > 0)
                .sorted(Comparator.comparingLong(d -> d.slot().block()))
                .toList();
        checks.overlaps(ascending);

        FlatImage.Builder builder = FlatImage.builder(Math.min(superblock.blockSize(), 4096));
        if (repairs.isEmpty()) {
            appendPadded(builder, meta, 0, superblock.primaryBytes(meta.size()));
        } else {
            Bytes repaired = repairedHead(devices);
            builder.append(repaired.size(), repaired, 0);
            long rest = Math.max(0, superblock.primaryBytes(meta.size()) - repaired.size());
            appendPadded(builder, meta, repaired.size(), rest);
        }
        for (ErofsImage.Device device : ascending) {
            builder.zerosTo(bytes(device.slot().block()));
            appendPadded(
                    builder,
                    device.blob(),
                    0,
                    Math.min(device.bytes(), bytes(device.slot().blocks())));
        }
        long end = ascending.isEmpty()
                ? superblock.primaryBytes(meta.size())
                : bytes(ascending.getLast().slot().endBlock());
        builder.zerosTo(roundUp(Math.max(end, builder.size())));
        return new ErofsImage(builder.build(), meta, superblock, devices, List.copyOf(repairs));
    }

    /** Gives slots that have no place theirs: one behind the other, behind everything that has one. */
    private List<ErofsImage.Device> place(List<Data> blobs, DeviceChecks checks, List<String> repairs)
            throws ImageException {
        long free = roundUp(superblock.primaryBytes(meta.size())) >> superblock.blockBits();
        for (DeviceSlot slot : slots) {
            if (slot.block() != 0) {
                free = Math.max(
                        free, Math.min(slot.endBlock(), DeviceChecks.MAX_DEVICE_BYTES >> superblock.blockBits()));
            }
        }
        List<ErofsImage.Device> devices = new ArrayList<>(blobs.size());
        for (DeviceSlot slot : slots) {
            Data blob = blobs.get(slot.number() - 1);
            DeviceSlot placed = slot;
            boolean empty = slot.blocks() == 0 && blob.bytes() == 0; // a tree without data: nothing to place
            if (!empty && (slot.block() == 0 || slot.blocks() == 0)) {
                checks.length(blob.source(), blob.bytes());
                long blocks = slot.blocks() != 0 ? slot.blocks() : roundUp(blob.bytes()) >> superblock.blockBits();
                placed = slot.at(slot.block() != 0 ? slot.block() : free, blocks);
                if (slot.block() == 0) {
                    free = Math.addExact(free, blocks);
                }
                checks.range(placed);
                repairs.add("slot %d: uniaddr %d, blocks %d served as uniaddr %d, blocks %d"
                        .formatted(slot.number(), slot.block(), slot.blocks(), placed.block(), placed.blocks()));
            }
            devices.add(new ErofsImage.Device(placed, blob.source(), blob.bytes()));
        }
        return devices;
    }

    /** The blocks that hold superblock and device table, as they are served. */
    private Bytes repairedHead(List<ErofsImage.Device> devices) throws IOException {
        long tableEnd = superblock.deviceSlotOffset() + (long) devices.size() * DeviceSlot.BYTES;
        long primary = superblock.primaryBytes(meta.size());
        int length = Math.toIntExact(Math.min(roundUp(Math.max(tableEnd, 4096)), primary));
        // whole sectors: behind the last byte of a bootstrap of any length the device has zeros
        byte[] head =
                Arrays.copyOf(Superblock.bytes(meta, 0, length), (length + FlatImage.SECTOR - 1) & -FlatImage.SECTOR);
        ByteBuffer le = Superblock.le(head);
        for (ErofsImage.Device device : devices) {
            DeviceSlot slot = device.slot();
            int at = superblock.deviceSlotOffset() + (slot.number() - 1) * DeviceSlot.BYTES;
            le.putInt(at + DeviceSlot.BLOCKS_LO, (int) slot.blocks());
            le.putInt(at + DeviceSlot.BLOCK_LO, (int) slot.block());
            if (superblock.is48Bit()) {
                le.putShort(at + DeviceSlot.BLOCKS_HI, (short) (slot.blocks() >> 32));
                le.putShort(at + DeviceSlot.BLOCK_HI, (short) (slot.block() >> 32));
            }
        }
        if (superblock.hasChecksum()) {
            le.putInt(Superblock.CHECKSUM_AT, (int) Superblock.checksum(meta.name(), head, superblock.blockSize()));
        }
        return new Bytes(meta.name() + " (repaired head)", head);
    }

    /** Lays bytes of a file whose end may be inside a sector: the rest of that sector is zeros. */
    private static void appendPadded(FlatImage.Builder builder, Source blob, long offset, long length)
            throws IOException {
        long whole = length & -FlatImage.SECTOR;
        builder.append(whole, blob, offset);
        int tail = (int) (length - whole);
        if (tail > 0) {
            byte[] sector = new byte[FlatImage.SECTOR];
            System.arraycopy(Superblock.bytes(blob, offset + whole, tail), 0, sector, 0, tail);
            builder.append(FlatImage.SECTOR, new Bytes(blob.name() + " (last sector)", sector), 0);
        }
    }

    private long bytes(long blocks) {
        return blocks << superblock.blockBits();
    }

    private long roundUp(long bytes) {
        return (bytes + superblock.blockSize() - 1) & -superblock.blockSize();
    }
}

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
import java.util.Comparator;
import java.util.List;
import java.util.Optional;

/**
 * Lays a metadata image and the blobs of its device table into one linear space, the one that the kernel addresses
 * when it mounts such an image from a single device ({@code flatdev} in fs/erofs/super.c): the metadata from block 0,
 * each blob from its slot's {@code uniaddr}, zeros between them.
 *
 * <p>The kernel checks none of this at mount: a blob too short, in the wrong place or of the wrong layer gives I/O
 * errors or wrong bytes later. Hence every check is here, before there is a device.
 */
public final class ErofsComposer {
    /** The kernel counts a device's sectors in 64 bits and its bytes in {@code loff_t}. */
    private static final long MAX_DEVICE_BYTES = Long.MAX_VALUE & -(1L << 20);

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
        checkPrimary();
        List<String> repairs = new ArrayList<>();
        List<ErofsImage.Device> devices = place(blobs, repairs);
        for (ErofsImage.Device device : devices) {
            checkDevice(device);
        }
        List<ErofsImage.Device> ascending = devices.stream()
                .sorted(Comparator.comparingLong(d -> d.slot().block()))
                .toList();
        checkOverlaps(ascending);

        FlatImage.Builder builder = FlatImage.builder(Math.min(superblock.blockSize(), 4096));
        if (repairs.isEmpty()) {
            appendPadded(builder, meta, 0, primaryBytes());
        } else {
            Bytes repaired = repairedHead(devices);
            builder.append(repaired.size(), repaired, 0);
            appendPadded(builder, meta, repaired.size(), primaryBytes() - repaired.size());
        }
        for (ErofsImage.Device device : ascending) {
            builder.zerosTo(bytes(device.slot().block()));
            appendPadded(
                    builder,
                    device.blob(),
                    0,
                    Math.min(device.bytes(), bytes(device.slot().blocks())));
        }
        long end = slots.isEmpty()
                ? roundUp(Math.max(meta.size(), bytes(superblock.blocks())))
                : bytes(ascending.getLast().slot().endBlock());
        builder.zerosTo(Math.max(end, roundUp(builder.size())));
        return new ErofsImage(builder.build(), meta, superblock, devices, List.copyOf(repairs));
    }

    /** What of the file is metadata: all of it, or with blobs behind it what the superblock counts. */
    private long primaryBytes() {
        return slots.isEmpty() || superblock.isRafs() ? meta.size() : bytes(superblock.blocks());
    }

    private void checkPrimary() throws ImageException {
        if (!superblock.isRafs() && meta.size() < bytes(superblock.blocks())) {
            throw new ImageException(
                    meta.name(),
                    "size",
                    meta.size() + " bytes",
                    "at least %d, the %d blocks of its superblock"
                            .formatted(bytes(superblock.blocks()), superblock.blocks()));
        }
        if (superblock.blocks() > MAX_DEVICE_BYTES >> superblock.blockBits()) {
            throw new ImageException(
                    meta.name(), "superblock.blocks", superblock.blocks(), "a device of less than 2^63 bytes");
        }
        long tableEnd = superblock.deviceSlotOffset() + (long) slots.size() * DeviceSlot.BYTES;
        if (!slots.isEmpty() && tableEnd > primaryBytes()) {
            throw new ImageException(
                    meta.name(),
                    "superblock.devt_slotoff",
                    "%d (table ends at byte %d)".formatted(superblock.deviceSlotOffset() / 128, tableEnd),
                    "a table within the metadata's " + primaryBytes() + " bytes");
        }
    }

    /** Gives slots that have no place theirs: one behind the other, behind everything that has one. */
    private List<ErofsImage.Device> place(List<Data> blobs, List<String> repairs) throws ImageException {
        long free = roundUp(primaryBytes()) >> superblock.blockBits();
        for (DeviceSlot slot : slots) {
            if (slot.block() != 0) {
                free = Math.max(free, Math.min(slot.endBlock(), MAX_DEVICE_BYTES >> superblock.blockBits()));
            }
        }
        List<ErofsImage.Device> devices = new ArrayList<>(blobs.size());
        for (DeviceSlot slot : slots) {
            Data blob = blobs.get(slot.number() - 1);
            DeviceSlot placed = slot;
            if (slot.block() == 0 || slot.blocks() == 0) {
                long blocks = slot.blocks() != 0 ? slot.blocks() : roundUp(blob.bytes()) >> superblock.blockBits();
                placed = slot.at(slot.block() != 0 ? slot.block() : free, blocks);
                if (slot.block() == 0) {
                    free = Math.addExact(free, blocks);
                }
                checkRange(placed);
                repairs.add("slot %d: uniaddr %d, blocks %d served as uniaddr %d, blocks %d"
                        .formatted(slot.number(), slot.block(), slot.blocks(), placed.block(), placed.blocks()));
            }
            devices.add(new ErofsImage.Device(placed, blob.source(), blob.bytes()));
        }
        return devices;
    }

    private void checkRange(DeviceSlot slot) throws ImageException {
        long limit = superblock.is48Bit() ? 1L << 48 : 1L << 32;
        if (slot.endBlock() > limit || slot.endBlock() > MAX_DEVICE_BYTES >> superblock.blockBits()) {
            throw new ImageException(
                    meta.name(),
                    field(slot, "uniaddr"),
                    "%d (+%d blocks)".formatted(slot.block(), slot.blocks()),
                    "an end within " + (superblock.is48Bit() ? "2^48" : "2^32") + " blocks and 2^63 bytes");
        }
    }

    private void checkDevice(ErofsImage.Device device) throws IOException {
        DeviceSlot slot = device.slot();
        Source blob = device.blob();
        checkRange(slot);
        if (slot.blocks() == 0) {
            throw new ImageException(blob.name(), "size", "0 bytes", "the data of slot " + slot.number());
        }
        long wanted = bytes(slot.blocks());
        boolean repaired = slots.get(slot.number() - 1).blocks() == 0;
        if (device.bytes() < wanted && !repaired) {
            throw new ImageException(
                    blob.name(),
                    "size",
                    device.bytes() + " bytes",
                    "at least %d, the %d blocks of slot %d".formatted(wanted, slot.blocks(), slot.number()));
        }
        if (blob instanceof Blob file) { // what is decoded holds chunks, and looking would decode the first
            Optional<Superblock> layer = Superblock.find(file);
            if (layer.isPresent()) {
                checkLayer(slot, file, layer.get());
            }
        }
    }

    /** A blob that is itself an EROFS image, which is what a merge of native layers refers to. */
    private void checkLayer(DeviceSlot slot, Blob blob, Superblock layer) throws ImageException {
        if (layer.extraDevices() > 0) {
            throw new ImageException(
                    blob.name(),
                    "superblock.extra_devices",
                    layer.extraDevices(),
                    "0: the blob of slot %d holds data, not a device table of its own".formatted(slot.number()));
        }
        if (layer.blockBits() != superblock.blockBits()) {
            throw new ImageException(
                    blob.name(),
                    "block size",
                    layer.blockSize(),
                    "%d, that of %s".formatted(superblock.blockSize(), meta.name()));
        }
        if (slot.isTagged() && slot.tag().length() == 32 && !slot.tag().equalsIgnoreCase(layer.uuid())) {
            throw new ImageException(
                    blob.name(),
                    "superblock.uuid",
                    layer.uuid(),
                    "%s, the tag of slot %d in %s".formatted(slot.tag(), slot.number(), meta.name()));
        }
    }

    private void checkOverlaps(List<ErofsImage.Device> ascending) throws ImageException {
        long end = primaryBytes();
        String before = "the metadata";
        for (ErofsImage.Device device : ascending) {
            DeviceSlot slot = device.slot();
            if (bytes(slot.block()) < end) {
                throw new ImageException(
                        meta.name(),
                        field(slot, "uniaddr"),
                        "%d (byte %d)".formatted(slot.block(), bytes(slot.block())),
                        "at least byte %d, the end of %s".formatted(end, before));
            }
            end = bytes(slot.endBlock());
            before = "slot " + slot.number();
        }
    }

    /** The blocks that hold superblock and device table, as they are served. */
    private Bytes repairedHead(List<ErofsImage.Device> devices) throws IOException {
        long tableEnd = superblock.deviceSlotOffset() + (long) devices.size() * DeviceSlot.BYTES;
        int length = Math.toIntExact(Math.min(roundUp(Math.max(tableEnd, 4096)), primaryBytes() & -512));
        byte[] head = Superblock.bytes(meta, 0, length);
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

    private static String field(DeviceSlot slot, String name) {
        return "device slot " + slot.number() + " " + name;
    }

    private long bytes(long blocks) {
        return blocks << superblock.blockBits();
    }

    private long roundUp(long bytes) {
        return (bytes + superblock.blockSize() - 1) & -superblock.blockSize();
    }
}

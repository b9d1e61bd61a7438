// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Source;
import dev.erofsublk.uring.FileStatus;
import java.io.IOException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What must hold before the bytes of a blob may appear at their slot's place. The kernel checks none of it.
 *
 * <p>Each refusal names the file that is wrong: the metadata where the table contradicts itself, the blob where it is
 * not the one that the table means. {@code docs/checks.md} lists them.
 */
final class DeviceChecks {
    /** The kernel counts a device's bytes in {@code loff_t}; the last MiB is room for rounding. */
    static final long MAX_DEVICE_BYTES = Long.MAX_VALUE & -(1L << 20);

    private static final int UUID_DIGITS = 32;
    /** Where a tar header of POSIX.1-1988 and later says "ustar". */
    private static final int USTAR_AT = 257;

    private final Source meta;
    private final Superblock superblock;
    private final List<DeviceSlot> slots;

    /** @param slots as the file has them */
    DeviceChecks(Source meta, Superblock superblock, List<DeviceSlot> slots) {
        this.meta = meta;
        this.superblock = superblock;
        this.slots = slots;
    }

    /** The metadata file holds what its superblock counts, and the table lies in it. */
    void primary() throws ImageException {
        length(meta, meta.size());
        if (superblock.blocks() > MAX_DEVICE_BYTES >> superblock.blockBits()) {
            throw new ImageException(
                    meta.name(), "superblock.blocks", superblock.blocks(), "a device of less than 2^63 bytes");
        }
        if (!superblock.isRafs() && meta.size() < superblock.bytes(superblock.blocks())) {
            throw new ImageException(
                    meta.name(),
                    "size",
                    meta.size() + " bytes",
                    "at least %d, the %d blocks of its superblock"
                            .formatted(superblock.bytes(superblock.blocks()), superblock.blocks()));
        }
        long tableEnd = superblock.deviceSlotOffset() + (long) slots.size() * DeviceSlot.BYTES;
        if (!slots.isEmpty() && tableEnd > superblock.primaryBytes(meta.size())) {
            throw new ImageException(
                    meta.name(),
                    "superblock.devt_slotoff",
                    "%d (table ends at byte %d)".formatted(superblock.deviceSlotOffset() / 128, tableEnd),
                    "a table within the metadata's " + superblock.primaryBytes(meta.size()) + " bytes");
        }
    }

    /** A file is short enough for a device. */
    void length(Source file, long bytes) throws ImageException {
        if (bytes > MAX_DEVICE_BYTES) {
            throw new ImageException(file.name(), "size", bytes + " bytes", "at most " + MAX_DEVICE_BYTES);
        }
    }

    /** A slot ends within what its address fields and the kernel's file offsets can count. */
    void range(DeviceSlot slot) throws ImageException {
        long limit = superblock.is48Bit() ? 1L << 48 : 1L << 32;
        if (slot.endBlock() > limit || slot.endBlock() > MAX_DEVICE_BYTES >> superblock.blockBits()) {
            throw new ImageException(
                    meta.name(),
                    field(slot, "uniaddr"),
                    "%d (+%d blocks)".formatted(slot.block(), slot.blocks()),
                    "an end within " + (superblock.is48Bit() ? "2^48" : "2^32") + " blocks and 2^63 bytes");
        }
    }

    /** The blob has the bytes of its slot and is the one that is meant. */
    void device(ErofsImage.Device device) throws IOException {
        DeviceSlot slot = device.slot();
        Source blob = device.blob();
        range(slot);
        boolean repaired = slots.get(slot.number() - 1).blocks() == 0;
        if (blob instanceof Blob) { // what is decoded is not looked at: that would decode it
            encoding(slot, blob);
        }
        long wanted = superblock.bytes(slot.blocks());
        if (device.bytes() < wanted && !repaired) {
            throw new ImageException(
                    blob.name(),
                    "size",
                    device.bytes() + " bytes",
                    "at least %d, the %d blocks of slot %d".formatted(wanted, slot.blocks(), slot.number()));
        }
        // A merge of layers tags each slot with a UUID; the blob of an image without tags holds files, and the first of
        // them may well be somebody's EROFS image.
        if (blob instanceof Blob && slot.tag().length() == UUID_DIGITS) {
            Optional<Superblock> layer = Superblock.find(blob);
            if (layer.isPresent()) {
                layer(slot, blob, layer.get());
            }
        }
    }

    /**
     * A tar index (blocks of 512 bytes, and no chunk feature: only {@code mkfs.erofs --tar=i} writes that) wants the raw
     * tar. Elsewhere compressed bytes may be a file's own, unless there are too few of them.
     */
    private void encoding(DeviceSlot slot, Source blob) throws IOException {
        Optional<Encoding> encoding = Encoding.of(blob);
        boolean isShort = blob.size() < superblock.bytes(slot.blocks());
        boolean wantsTar = superblock.isTarIndex() && !isTar(blob);
        if (encoding.isPresent() && (isShort || wantsTar)) {
            throw new ImageException(
                    blob.name(),
                    "content",
                    encoding.get().title() + "-compressed, " + blob.size() + " bytes",
                    "the uncompressed data of slot %d, %d bytes"
                            .formatted(slot.number(), superblock.bytes(slot.blocks())));
        }
    }

    private static boolean isTar(Source blob) throws IOException {
        if (blob.size() < 512) {
            return false;
        }
        byte[] magic = Superblock.bytes(blob, USTAR_AT, 5);
        return magic[0] == 'u' && magic[1] == 's' && magic[2] == 't' && magic[3] == 'a' && magic[4] == 'r';
    }

    /** A blob that is itself an EROFS image, which is what a merge of native layers refers to. */
    private void layer(DeviceSlot slot, Source blob, Superblock layer) throws ImageException {
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
        if (slot.isTagged() && !slot.tag().equalsIgnoreCase(layer.uuid())) {
            throw new ImageException(
                    blob.name(),
                    "superblock.uuid",
                    layer.uuid(),
                    "%s, the tag of slot %d in %s".formatted(slot.tag(), slot.number(), meta.name()));
        }
        // mkfs copies the count into the slot: all that tells layers apart whose UUIDs were cleared
        if (slots.get(slot.number() - 1).blocks() != 0 && layer.blocks() != slot.blocks()) {
            throw new ImageException(
                    blob.name(),
                    "superblock.blocks",
                    layer.blocks(),
                    "%d, those of slot %d in %s".formatted(slot.blocks(), slot.number(), meta.name()));
        }
    }

    /** No blob is the metadata itself, and none fills two slots of different lengths. */
    void distinct(List<ErofsImage.Device> devices) throws ImageException {
        Map<String, ErofsImage.Device> seen = new HashMap<>();
        for (ErofsImage.Device device : devices) {
            if (!(device.blob() instanceof Blob blob)) {
                continue;
            }
            if (meta instanceof Blob file && identity(file).equals(identity(blob))) {
                throw new ImageException(
                        blob.name(),
                        "blob of device slot " + device.slot().number(),
                        "the metadata image itself",
                        "the file that holds the slot's data");
            }
            ErofsImage.Device other = seen.putIfAbsent(identity(blob), device);
            if (other != null && other.slot().blocks() != device.slot().blocks()) {
                throw new ImageException(
                        blob.name(),
                        "blob of device slot " + device.slot().number(),
                        "that of slot %d too, which has %d blocks"
                                .formatted(other.slot().number(), other.slot().blocks()),
                        "another file, of %d blocks".formatted(device.slot().blocks()));
            }
        }
    }

    private static String identity(Blob blob) {
        FileStatus status = blob.status();
        return status.device() + ":" + status.inode();
    }

    /** Metadata and slots do not share a byte. */
    void overlaps(List<ErofsImage.Device> ascending) throws ImageException {
        long end = superblock.primaryBytes(meta.size());
        String before = "the metadata";
        for (ErofsImage.Device device : ascending) {
            DeviceSlot slot = device.slot();
            if (slot.blocks() == 0) {
                continue;
            }
            if (superblock.bytes(slot.block()) < end) {
                throw new ImageException(
                        meta.name(),
                        field(slot, "uniaddr"),
                        "%d (byte %d)".formatted(slot.block(), superblock.bytes(slot.block())),
                        "at least byte %d, the end of %s".formatted(end, before));
            }
            end = superblock.bytes(slot.endBlock());
            before = "slot " + slot.number();
        }
    }

    private static String field(DeviceSlot slot, String name) {
        return "device slot " + slot.number() + " " + name;
    }
}

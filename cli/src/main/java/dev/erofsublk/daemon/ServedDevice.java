// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.Residency;
import dev.erofsublk.composer.source.ImageCheck;
import dev.erofsublk.composer.verity.VerityImage;
import dev.erofsublk.composer.verity.VerityTree;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.Device;
import dev.erofsublk.ublk.DeviceCounters;
import dev.erofsublk.ublk.DeviceInfo;
import java.io.IOException;
import java.time.Duration;
import java.util.Optional;

/**
 * A device that this process serves, and all that belongs to it: image, mapping, control device. Each has a control
 * device of its own, so that a command that waits concerns no other.
 */
final class ServedDevice implements AutoCloseable {
    private final MappedImage mapped;
    private final ControlDevice control;
    private final Device device;
    private final DeviceRecord record;
    private volatile boolean ending;

    private ServedDevice(MappedImage mapped, ControlDevice control, Device device, DeviceRecord record) {
        this.mapped = mapped;
        this.control = control;
        this.device = device;
        this.record = record;
    }

    /** An image laid out in memory, ready to be served. */
    record MappedImage(Image image, AddressSpace space) implements AutoCloseable {
        static MappedImage open(SourceSpec source, AllowedPaths allowed) throws IOException {
            Image image = source.open();
            try {
                allowed.check(image.flat());
                return new MappedImage(image, AddressSpace.map(image.flat()));
            } catch (IOException | RuntimeException e) {
                image.close();
                throw e;
            }
        }

        @Override
        public void close() {
            space.close();
            image.close();
        }
    }

    /**
     * Adds a device, writes it down, and makes it readable, in this order; on failure nothing is left of it. Meanwhile
     * the image is checked: nobody sees the device before that has ended well.
     */
    static ServedDevice add(DeviceSpec spec, AllowedPaths allowed, StateDirectory state) throws IOException {
        MappedImage mapped = MappedImage.open(spec.source(), allowed);
        ControlDevice control = null;
        Device device = null;
        try (ImageCheck check = ImageCheck.start(mapped.image)) {
            if (spec.verify()) {
                check.require();
                check.requireContents(mapped.image);
            }
            long token = DeviceRecord.newToken();
            control = ControlDevice.open();
            device = Device.add(
                    control, mapped.space, spec.options(mapped.image.flat().blockSize(), token));
            int id = device.info().id();
            DeviceRecord record = DeviceRecord.of(id, token, spec, mapped.image);
            state.write(record);
            try {
                check.require();
                device.goLive();
            } catch (IOException | RuntimeException e) {
                state.remove(id);
                throw e;
            }
            return new ServedDevice(mapped, control, device, record);
        } catch (IOException | RuntimeException e) {
            if (device != null) {
                device.close();
            }
            if (control != null) {
                control.close();
            }
            mapped.close();
            throw e;
        }
    }

    /**
     * Takes over a device whose server is gone.
     *
     * @param mapped its image; closed here on failure
     */
    static ServedDevice recover(DeviceRecord record, MappedImage mapped, Duration patience) throws IOException {
        ControlDevice control = null;
        try {
            control = ControlDevice.open();
            Device device = Device.recover(control, mapped.space, record.id(), patience);
            return new ServedDevice(mapped, control, device, record);
        } catch (IOException | RuntimeException e) {
            if (control != null) {
                control.close();
            }
            mapped.close();
            throw e;
        }
    }

    /** Takes it over from itself, after a queue has failed. */
    ServedDevice recoverAgain(Duration patience) throws IOException {
        device.release();
        Device again = Device.recover(control, mapped.space, record.id(), patience);
        return new ServedDevice(mapped, control, again, record);
    }

    int id() {
        return record.id();
    }

    DeviceRecord record() {
        return record;
    }

    DeviceInfo info() {
        return device.info();
    }

    FlatImage image() {
        return mapped.image.flat();
    }

    /** The dm-verity tree behind the device's data, if it was asked for. */
    Optional<VerityTree> hashTree() {
        return mapped.image instanceof VerityImage image ? Optional.of(image.tree()) : Optional.empty();
    }

    DeviceCounters counters() {
        return device.counters();
    }

    /** How much of the image could be read without waiting when it was last looked at; at most its size. */
    long residentBytes() {
        Residency residency = mapped.space.residency();
        long resident = residency.units() - residency.missing();
        return resident == residency.units()
                ? image().size()
                : Math.min(image().size(), resident * Residency.UNIT_BYTES);
    }

    void suspect(boolean suspect) {
        device.suspect(suspect);
    }

    /** Where byte {@code offset} of the device comes from, for a person. */
    String origin(long offset) {
        if (offset < 0 || offset >= image().size()) {
            return "beyond the device";
        }
        Extent extent = image().extent(image().indexOf(offset));
        return "%s, byte %d".formatted(extent.source().name(), extent.sourceOffset() + offset - extent.start());
    }

    /** Whether it is ending because this process wants it to. */
    boolean isEnding() {
        return ending;
    }

    void awaitStopped() throws IOException, InterruptedException {
        device.awaitStopped();
    }

    /** Hands it over to the next server, whose turn it is when this returns. */
    void handOver() {
        ending = true;
        device.release();
    }

    /** Lets go of a device that was stopped by somebody else. */
    void release() {
        ending = true;
        device.release();
        control.close();
        mapped.close();
    }

    /** Stops and deletes the device. */
    @Override
    public void close() throws IOException {
        ending = true;
        try {
            device.close();
        } finally {
            control.close();
            mapped.close();
        }
    }
}

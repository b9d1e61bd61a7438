// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.source.ImageCheck;
import dev.erofsublk.composer.trace.Prefetch;
import dev.erofsublk.composer.verity.VerityImage;
import dev.erofsublk.composer.verity.VerityTree;
import dev.erofsublk.ublk.DeviceCounters;
import java.io.IOException;
import java.time.Duration;
import java.util.Optional;

/**
 * A device that this process serves, and all that belongs to it: image, mapping, and what the driver needs.
 *
 * <p>Thread-safe, but only one thread ends it.
 */
abstract sealed class ServedDevice implements AutoCloseable permits NbdServed, UblkServed {
    final MappedImage mapped;
    final AccessHistory history;
    private final DeviceRecord record;
    private volatile boolean ending;

    ServedDevice(MappedImage mapped, DeviceRecord record, AccessHistory history) {
        this.mapped = mapped;
        this.history = history;
        this.record = record;
    }

    /**
     * Adds a device, writes it down, and makes it readable; on failure nothing is left of it. Meanwhile the image is
     * checked: nobody sees the device before that has ended well.
     */
    static ServedDevice add(DeviceSpec spec, AllowedPaths allowed, StateDirectory state) throws IOException {
        MappedImage mapped = MappedImage.open(spec.source(), allowed);
        try (ImageCheck check = ImageCheck.start(mapped.image())) {
            if (spec.verify()) {
                check.require();
                check.requireContents(mapped.image());
            }
            allowed.check(spec.trace());
            AccessHistory history = AccessHistory.open(spec.trace(), mapped.image(), mapped.space());
            ServedDevice device = switch (spec.backend()) {
                case UBLK -> UblkServed.add(spec, mapped, history, check, state);
                case NBD -> NbdServed.add(spec, mapped, history, check, state);
            };
            device.history.start(device.path(), device.loader());
            return device;
        } catch (IOException | RuntimeException e) {
            mapped.close();
            throw e;
        }
    }

    /**
     * Takes over a device whose server is gone.
     *
     * @param mapped its image; closed here on failure
     */
    static ServedDevice recover(DeviceRecord record, MappedImage mapped, StateDirectory state, Duration patience)
            throws IOException {
        try {
            AccessHistory history = AccessHistory.reopen(record.spec().trace(), mapped.image(), mapped.space());
            ServedDevice device = switch (record.spec().backend()) {
                case UBLK -> UblkServed.recover(record, mapped, history, patience);
                case NBD -> NbdServed.recover(record, mapped, history, state);
            };
            device.history.start(device.path(), device.loader());
            return device;
        } catch (IOException | RuntimeException e) {
            mapped.close();
            throw e;
        }
    }

    /** Whether the kernel still has the device of this record, which nobody serves here; what is left of a dead one goes. */
    static boolean isWaiting(DeviceRecord record, StateDirectory state) throws IOException {
        return switch (record.spec().backend()) {
            case UBLK -> UblkServed.isWaiting(record);
            case NBD -> NbdServed.isWaiting(record, state);
        };
    }

    /**
     * Takes a device that has stopped over from itself, if it is only without a server.
     *
     * @return what serves it from here on; nothing if the device was stopped for good
     */
    abstract Optional<ServedDevice> recoverAgain(Duration patience) throws IOException;

    /** Brings bytes of it in for readers to come. */
    abstract Prefetch.Loader loader();

    final DeviceId id() {
        return record.id();
    }

    /** The node that is read and mounted. */
    final String path() {
        return record.id().path();
    }

    final DeviceRecord record() {
        return record;
    }

    final FlatImage image() {
        return mapped.image().flat();
    }

    /** Hardware queues. */
    abstract int queues();

    /** Requests that each of them may have in flight. */
    abstract int depth();

    abstract DeviceCounters counters();

    /** Tells whether bytes of the image may be missing. */
    abstract void suspect(boolean suspect);

    /** The dm-verity tree behind the device's data, if it was asked for. */
    final Optional<VerityTree> hashTree() {
        return mapped.image() instanceof VerityImage image ? Optional.of(image.tree()) : Optional.empty();
    }

    /** How much of the image could be read without waiting when it was last looked at; at most its size. */
    abstract long residentBytes();

    /** Where byte {@code offset} of the device comes from, for a person. */
    final String origin(long offset) {
        if (offset < 0 || offset >= image().size()) {
            return "beyond the device";
        }
        Extent extent = image().extent(image().indexOf(offset));
        return "%s, byte %d".formatted(extent.source().name(), extent.sourceOffset() + offset - extent.start());
    }

    /** Whether it is ending because this process wants it to. */
    final boolean isEnding() {
        return ending;
    }

    /** Waits until it is not served any more, for whatever reason. */
    abstract void awaitStopped() throws IOException, InterruptedException;

    /** Hands it over to the next server, whose turn it is when this returns. */
    final void handOver() throws IOException {
        ending = true;
        history.close(); // before the next server reads what this one has recorded
        leave();
    }

    /** Lets go of a device that was stopped by somebody else. */
    final void release() {
        ending = true;
        letGo();
        history.close();
        mapped.close();
    }

    /** Stops and deletes the device. */
    @Override
    public final void close() throws IOException {
        ending = true;
        try {
            delete();
        } finally {
            history.close();
            mapped.close();
        }
    }

    abstract void leave() throws IOException;

    abstract void letGo();

    abstract void delete() throws IOException;
}

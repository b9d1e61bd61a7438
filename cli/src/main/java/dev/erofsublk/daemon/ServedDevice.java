// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.ublk.DeviceCounters;
import java.io.IOException;
import java.time.Duration;

/**
 * A device that this process serves, and all that belongs to it: image, mapping, and what the driver needs.
 *
 * <p>Thread-safe, but only one thread ends it.
 */
abstract sealed class ServedDevice implements AutoCloseable permits UblkServed {
    final MappedImage mapped;
    private final DeviceRecord record;
    private volatile boolean ending;

    ServedDevice(MappedImage mapped, DeviceRecord record) {
        this.mapped = mapped;
        this.record = record;
    }

    /** Adds a device, writes it down, and makes it readable; on failure nothing is left of it. */
    static ServedDevice add(DeviceSpec spec, AllowedPaths allowed, StateDirectory state) throws IOException {
        MappedImage mapped = MappedImage.open(spec.source(), allowed);
        try {
            return UblkServed.add(spec, mapped, state);
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
    static ServedDevice recover(DeviceRecord record, MappedImage mapped, Duration patience) throws IOException {
        try {
            return UblkServed.recover(record, mapped, patience);
        } catch (IOException | RuntimeException e) {
            mapped.close();
            throw e;
        }
    }

    /** Whether the kernel still has the device of this record, which nobody serves here; what is left of a dead one goes. */
    static boolean isWaiting(DeviceRecord record) throws IOException {
        return UblkServed.isWaiting(record);
    }

    /** Takes it over from itself, after it has lost its way to the kernel. */
    abstract ServedDevice recoverAgain(Duration patience) throws IOException;

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

    /** Whether the device was stopped for good: one that is only without a server can be served again. */
    abstract boolean isGone() throws IOException;

    /** Hands it over to the next server, whose turn it is when this returns. */
    final void handOver() throws IOException {
        ending = true;
        leave();
    }

    /** Lets go of a device that was stopped by somebody else. */
    final void release() {
        ending = true;
        letGo();
        mapped.close();
    }

    /** Stops and deletes the device. */
    @Override
    public final void close() throws IOException {
        ending = true;
        try {
            delete();
        } finally {
            mapped.close();
        }
    }

    abstract void leave() throws IOException;

    abstract void letGo();

    abstract void delete() throws IOException;
}

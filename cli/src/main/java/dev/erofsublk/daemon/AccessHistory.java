// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.FirstTouches;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.export.OutputFile;
import dev.erofsublk.composer.trace.AccessTrace;
import dev.erofsublk.composer.trace.ImageIdentity;
import dev.erofsublk.composer.trace.Prefetch;
import java.io.IOException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * What the readers of a device read first: of an earlier time, to be brought in before they ask; of this time, to be
 * written down. Its end comes after that of the device and before that of the mapping. Thread-safe.
 */
public final class AccessHistory implements AutoCloseable {
    /** How much of a recording may be lost when its server is killed. */
    private static final long SAVE_NANOS = 10_000_000_000L;

    private final ImageIdentity identity;
    private final @Nullable Path file;
    private final FirstTouches touches = new FirstTouches();
    private final @Nullable AccessTrace replay;
    private @Nullable Prefetch prefetch;
    private long saved = -1;
    private long savedAt = System.nanoTime();
    private boolean closed;

    private AccessHistory(ImageIdentity identity, @Nullable Path file, @Nullable AccessTrace replay) {
        this.identity = identity;
        this.file = file;
        this.replay = replay;
    }

    /**
     * Reads the trace to replay and begins to record, if either is wanted; before the device is made.
     *
     * @throws IOException if a trace cannot be read or is not of this image, or if none could be written
     */
    public static AccessHistory open(TraceFiles files, Image image, AddressSpace space) throws IOException {
        if (files.isNone()) {
            return new AccessHistory(new ImageIdentity("", "", 0), null, null);
        }
        ImageIdentity identity = ImageIdentity.of(image);
        AccessTrace replay = files.prefetch() == null ? null : AccessTrace.read(files.prefetch(), identity);
        if (files.record() != null) {
            checkTarget(files.record(), image);
        }
        return begin(identity, files.record(), replay, space);
    }

    /** As {@link #open} for a device that is taken over: goes on with the recording, and without what is missing. */
    static AccessHistory reopen(TraceFiles files, Image image, AddressSpace space) {
        if (files.isNone()) {
            return new AccessHistory(new ImageIdentity("", "", 0), null, null);
        }
        ImageIdentity identity = ImageIdentity.of(image);
        AccessTrace replay = null;
        try {
            replay = files.prefetch() == null ? null : AccessTrace.read(files.prefetch(), identity);
        } catch (IOException e) {
            Log.warn("nothing is prefetched: %s", e.getMessage());
        }
        Path record = files.record();
        try {
            if (record != null) {
                checkTarget(record, image);
            }
        } catch (IOException e) {
            Log.warn("no trace is recorded: %s", e.getMessage());
            record = null;
        }
        AccessHistory history = begin(identity, record, replay, space);
        if (record != null && Files.exists(record)) {
            history.goOn(record);
        }
        return history;
    }

    private static AccessHistory begin(
            ImageIdentity identity, @Nullable Path record, @Nullable AccessTrace replay, AddressSpace space) {
        AccessHistory history = new AccessHistory(identity, record, replay);
        if (record != null) {
            space.note(history.touches);
        }
        return history;
    }

    private void goOn(Path record) {
        try {
            touches.addAll(AccessTrace.read(record, identity).runs());
        } catch (IOException e) {
            Log.warn("the trace is recorded from the beginning: %s", e.getMessage());
        }
    }

    private static void checkTarget(Path file, Image image) throws IOException {
        OutputFile.refuse(image.flat(), file, true);
        Path directory = Objects.requireNonNull(file.getParent()); // it is absolute
        if (!Files.isDirectory(directory) || !Files.isWritable(directory)) {
            throw new FileSystemException(file.toString(), null, directory + " is no directory that can be written to");
        }
    }

    /** Begins to bring in what is to be replayed, now that the device can be read. */
    public synchronized void start(String device, Prefetch.Loader loader) {
        if (replay != null && prefetch == null && !closed) {
            String name = String.valueOf(Path.of(device).getFileName());
            Log.info("%s: prefetches %d units", device, replay.units());
            prefetch = Prefetch.start(name, replay, identity.size(), loader);
        }
    }

    /** How many units are yet to be brought in. */
    synchronized long prefetchLeft() {
        return prefetch == null ? 0 : prefetch.left();
    }

    /** Writes the recording down if that was not done for a while; what fails is logged. */
    synchronized void saveIfDue() {
        if (file != null && !closed && System.nanoTime() - savedAt > SAVE_NANOS) {
            save(file);
        }
    }

    private void save(Path target) {
        long count = touches.count();
        savedAt = System.nanoTime();
        if (count == saved) {
            return;
        }
        try {
            new AccessTrace(identity, touches.runs()).write(target);
            saved = count;
        } catch (IOException e) {
            Log.error("the trace cannot be written: %s", e.getMessage());
        }
    }

    /** Stops bringing in and writes the recording down. May be called twice. */
    @Override
    public void close() {
        Prefetch running;
        synchronized (this) {
            running = prefetch;
        }
        if (running != null) {
            running.close();
        }
        synchronized (this) {
            if (file != null && !closed) {
                save(file);
            }
            closed = true;
        }
    }
}

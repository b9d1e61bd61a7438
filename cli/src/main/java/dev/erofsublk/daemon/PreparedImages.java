// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * Images of devices that somebody else serves, opened and mapped ahead of the day when he does not any more: what makes
 * a take-over quick. Thread-safe.
 */
final class PreparedImages implements AutoCloseable {
    private final StateDirectory state;
    private final AllowedPaths allowed;
    private final Map<Long, MappedImage> images = new HashMap<>();
    private final Set<Long> refused = new HashSet<>();

    PreparedImages(StateDirectory state, AllowedPaths allowed) {
        this.state = state;
        this.allowed = allowed;
    }

    /** Opens what is new among the records and closes what is gone from them. */
    synchronized void refresh() throws IOException {
        Set<Long> tokens = new HashSet<>();
        for (DeviceId id : state.ids()) {
            try {
                DeviceRecord record = state.read(id).orElse(null);
                if (record == null) {
                    continue;
                }
                tokens.add(record.token());
                if (!images.containsKey(record.token()) && !refused.contains(record.token())) {
                    prepare(record);
                }
            } catch (IOException e) {
                Log.debug("%s: %s", id, e.getMessage());
            }
        }
        images.entrySet().removeIf(entry -> {
            boolean gone = !tokens.contains(entry.getKey());
            if (gone) {
                entry.getValue().close();
            }
            return gone;
        });
        refused.retainAll(tokens);
    }

    private void prepare(DeviceRecord record) {
        try {
            images.put(record.token(), open(record));
            Log.debug("%s is prepared", record.id());
        } catch (IOException e) {
            refused.add(record.token());
            Log.warn("%s could not be taken over: %s", record.id(), e.getMessage());
        }
    }

    /**
     * The image of a device, to be closed by the caller.
     *
     * @throws DaemonException if it is not what it was when the device was added
     */
    MappedImage take(DeviceRecord record) throws IOException {
        MappedImage ready;
        synchronized (this) {
            ready = images.remove(record.token());
        }
        // One that was mapped ahead may have been changed since: its descriptors say so, but not its status of then.
        if (ready != null && unchanged(ready)) {
            return ready;
        }
        if (ready != null) {
            ready.close();
        }
        return open(record);
    }

    private static boolean unchanged(MappedImage mapped) throws IOException {
        for (var blob : FileIdentity.blobs(mapped.image().flat())) {
            if (!Linux.status(blob.fd()).equals(blob.status())) {
                return false;
            }
        }
        return true;
    }

    private MappedImage open(DeviceRecord record) throws IOException {
        MappedImage mapped = MappedImage.open(record.spec().source(), allowed);
        Optional<String> difference = record.difference(mapped.image());
        if (difference.isPresent()) {
            mapped.close();
            throw new DaemonException("its source has changed: " + difference.get());
        }
        return mapped;
    }

    @Override
    public synchronized void close() {
        images.values().forEach(MappedImage::close);
        images.clear();
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.Decoded;
import dev.erofsublk.composer.Source;
import dev.erofsublk.composer.cache.CacheDirectory;
import dev.erofsublk.uring.FileStatus;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The files of one image, each opened once however many extents it holds (QEMU opens one for every line and runs out
 * of descriptors, facts/vmdisk.md §0.3), and closed together.
 */
final class OpenFiles implements AutoCloseable {
    private record Reference(Path referrer, String name) {}

    private record Identity(long device, long inode) {
        static Identity of(Blob blob) {
            FileStatus status = blob.status();
            return new Identity(status.device(), status.inode());
        }
    }

    private final Confinement confinement;
    private final CacheDirectory cache;
    private final List<Source> opened = new ArrayList<>();
    private final Map<Reference, Blob> byName = new HashMap<>();
    private final Map<Identity, Blob> byIdentity = new HashMap<>();

    OpenFiles(Confinement confinement, CacheDirectory cache) {
        this.confinement = confinement;
        this.cache = cache;
    }

    /** Opens the file that the user names. */
    Blob open(Path path) throws IOException {
        return shared(Blob.open(path));
    }

    /** Opens the file that {@code referrer} calls {@code name}. */
    Blob open(Path referrer, String name) throws IOException {
        Reference reference = new Reference(referrer, name);
        Blob known = byName.get(reference);
        if (known == null) {
            known = shared(confinement.open(referrer, name));
            byName.put(reference, known);
        }
        return known;
    }

    private Blob shared(Blob blob) {
        Blob known = byIdentity.putIfAbsent(Identity.of(blob), blob);
        if (known != null) {
            blob.close();
            return known;
        }
        opened.add(blob);
        return blob;
    }

    /** What {@code decoder}, which reads from these files, decodes; closed before them. */
    Source decoded(GrainDecoder decoder) throws IOException {
        Path name = Path.of(decoder.name()).getFileName();
        Source source =
                cache.open(name == null ? "disk" : name.toString(), decoder.identity(), decoder.pieces(), decoder);
        opened.add(source);
        return source;
    }

    /** Closes what none of {@code sources} is or reads. */
    void keepOnly(List<Source> sources) {
        Set<Source> kept = Collections.newSetFromMap(new IdentityHashMap<>());
        kept.addAll(sources);
        // A decoded source reads the file of its name; there are few, so all files stay where there is one.
        if (sources.stream().noneMatch(Decoded.class::isInstance)) {
            opened.removeIf(source -> {
                boolean unused = !kept.contains(source);
                if (unused) {
                    source.close();
                }
                return unused;
            });
        }
        byName.clear();
        byIdentity.clear();
    }

    @Override
    public void close() {
        for (int i = opened.size(); i-- > 0; ) {
            opened.get(i).close();
        }
    }
}

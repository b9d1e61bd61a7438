// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.FlatImage;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * The directories that images may come from.
 *
 * <p>Judged by what was opened, not by the names that led there: the kernel tells the path of an open descriptor, with
 * all symbolic links and {@code ..} resolved, so nothing can be exchanged between the check and the use.
 */
public final class AllowedPaths {
    static final AllowedPaths ALL = new AllowedPaths(List.of());

    private final List<Path> directories;

    private AllowedPaths(List<Path> directories) {
        this.directories = directories;
    }

    /** Makes the limit; none of {@code directories} for no limit. */
    public static AllowedPaths of(List<Path> directories) throws IOException {
        List<Path> real = new ArrayList<>();
        for (Path directory : directories) {
            real.add(directory.toRealPath());
        }
        return new AllowedPaths(real);
    }

    /** @throws DaemonException naming the file that is outside */
    void check(TraceFiles trace) throws IOException {
        Path record = trace.record();
        if (trace.prefetch() != null) {
            checkName(trace.prefetch(), trace.prefetch());
        }
        if (record != null && record.getParent() != null) {
            checkName(record, record.getParent()); // a name in it is replaced, not followed
        }
    }

    private void checkName(Path path, Path within) throws IOException {
        if (directories.isEmpty()) {
            return;
        }
        try {
            check(path, within.toRealPath());
        } catch (NoSuchFileException e) {
            throw new DaemonException(within + " does not exist");
        }
    }

    private void check(Path path, Path real) throws DaemonException {
        if (!directories.isEmpty() && directories.stream().noneMatch(real::startsWith)) {
            throw new DaemonException("%s: path is %s, expected one under %s".formatted(path, real, listed()));
        }
    }

    private String listed() {
        return String.join(" or ", directories.stream().map(Path::toString).toList());
    }

    /** @throws DaemonException naming the file that is outside */
    void check(FlatImage image) throws IOException {
        if (directories.isEmpty()) {
            return;
        }
        for (Blob blob : FileIdentity.blobs(image)) {
            Path real = Files.readSymbolicLink(Path.of("/proc/self/fd", Integer.toString(blob.fd())));
            check(blob.path(), real);
        }
    }
}

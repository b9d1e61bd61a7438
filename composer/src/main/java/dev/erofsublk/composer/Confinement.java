// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Where the files may lie that an image refers to: extents and parents.
 *
 * <p>Whoever wrote the image chose these names, so they are an attack surface: an absolute path or a {@code ..} would
 * put any file of the host onto the device (facts/vmdisk.md §0.10). A reference may lead into the folder of the file
 * that holds it, or into a folder that the user allows, and nowhere else; the kernel enforces that while it opens the
 * file ({@link Linux#openBeneath}), symbolic links included. Only regular files are opened. A name is a name: never a
 * URL, a protocol or a command.
 *
 * <p>Immutable and thread-safe.
 */
public final class Confinement {
    /** The own folder of each image and nothing else. */
    public static final Confinement OWN_FOLDER = new Confinement();

    /** Linux's PATH_MAX: what is longer cannot be opened. */
    private static final int MAX_REFERENCE = 4096;

    private final List<Path> allowed;

    private Confinement() {
        allowed = List.of();
    }

    /**
     * @param allowed the folders, besides an image's own, whose files may be referred to; each must exist
     * @throws IOException if one does not exist
     */
    public Confinement(List<Path> allowed) throws IOException {
        List<Path> real = new ArrayList<>();
        for (Path directory : allowed) {
            real.add(directory.toRealPath());
        }
        this.allowed = List.copyOf(real);
    }

    /**
     * Opens the file that {@code reference} names.
     *
     * @param referrer the file that holds the reference; a relative one starts from its folder
     * @param reference as it stands in the image; a {@code ..} is resolved before symbolic links are
     * @return the file, under its full name; the caller closes it
     * @throws ImageException naming the referrer if the reference leads elsewhere or to something other than a regular
     *     file, or if there is no such file
     * @throws LinuxException if it cannot be opened for another reason
     */
    public Blob open(Path referrer, String reference) throws IOException {
        if (reference.isEmpty() || reference.length() > MAX_REFERENCE) {
            throw refusal(referrer, reference, "a name of 1 to " + MAX_REFERENCE + " characters");
        }
        Path home = folder(referrer);
        Path target;
        try {
            target = home.resolve(reference).normalize();
        } catch (InvalidPathException e) {
            throw refusal(referrer, reference, "a file name");
        }
        if (target.startsWith(home)) {
            return openBeneath(referrer, reference, home, target);
        }
        for (Path directory : allowed) {
            if (target.startsWith(directory)) {
                return openBeneath(referrer, reference, directory, target);
            }
        }
        throw refusal(referrer, reference, outside(home));
    }

    private static Path folder(Path file) throws IOException {
        Path parent = file.toAbsolutePath().getParent();
        return (parent == null ? file.toAbsolutePath() : parent).toRealPath();
    }

    private Blob openBeneath(Path referrer, String reference, Path directory, Path target) throws IOException {
        int fd;
        try {
            // O_NONBLOCK: opening a FIFO must not wait for a writer before it can be refused.
            fd = Linux.openBeneath(
                    directory.toString(), "./" + directory.relativize(target), Linux.O_RDONLY | Linux.O_NONBLOCK);
        } catch (LinuxException e) {
            throw switch (e.errno()) {
                case Errno.EXDEV, Errno.ELOOP -> refusal(referrer, reference, outside(directory));
                case Errno.ENOENT -> refusal(referrer, reference, "a file that exists: there is no " + target);
                default -> e;
            };
        }
        try {
            if (!Linux.status(fd).isRegularFile()) {
                throw refusal(referrer, reference, "a regular file");
            }
            return Blob.adopt(target, fd);
        } catch (IOException | RuntimeException e) {
            Linux.close(fd);
            throw e;
        }
    }

    private String outside(Path directory) {
        return "a file below " + directory
                + (allowed.isEmpty() ? "" : " or " + allowed)
                + ", also behind symbolic links (more folders are opened to it with --allow-dir)";
    }

    private static ImageException refusal(Path referrer, String reference, String expected) {
        String shown = reference.length() > 200 ? reference.substring(0, 200) + "…" : reference;
        return new ImageException(referrer.toString(), "file reference", '"' + shown + '"', expected);
    }
}

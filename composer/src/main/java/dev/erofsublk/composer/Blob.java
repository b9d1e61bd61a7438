// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.FileStatus;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * A regular file or block device, opened for reading once and for good: the descriptor, not the name, is what is
 * served, so that a file replaced under its name changes nothing.
 */
public final class Blob implements Source {
    private final Path path;
    private final int fd;
    private final FileStatus status;
    private final boolean own;
    private volatile @Nullable Boolean readsWithoutWaiting;
    private volatile boolean closed;

    private Blob(Path path, int fd, FileStatus status, boolean own) {
        this.path = path;
        this.fd = fd;
        this.status = status;
        this.own = own;
    }

    /**
     * Opens {@code path}.
     *
     * @throws ImageException if it is neither a regular file nor a block device
     * @throws LinuxException if it cannot be opened
     */
    public static Blob open(Path path) throws IOException {
        // O_NONBLOCK: opening a FIFO must not wait for a writer before it can be refused.
        int fd = Linux.open(path.toString(), Linux.O_RDONLY | Linux.O_NONBLOCK);
        try {
            return adopt(path, fd);
        } catch (IOException | RuntimeException e) {
            Linux.close(fd);
            throw e;
        }
    }

    /** Takes over an open descriptor, for example of a cache file; {@code path} is what messages call it. */
    public static Blob adopt(Path path, int fd) throws IOException {
        return adopt(path, fd, false);
    }

    /**
     * Takes over an open descriptor of a file without a name, which this process made and nobody else can open.
     *
     * @param name what messages call it
     */
    public static Blob ofOwnFile(String name, int fd) throws IOException {
        return adopt(Path.of(name), fd, true);
    }

    private static Blob adopt(Path path, int fd, boolean own) throws IOException {
        FileStatus status = Linux.status(fd);
        if (!status.isRegularFile() && !status.isBlockDevice()) {
            throw new ImageException(
                    path.toString(),
                    "file type",
                    status.isDirectory() ? "a directory" : "mode 0%o".formatted(status.mode()),
                    "a regular file or a block device");
        }
        return new Blob(path, fd, status, own);
    }

    /** The path it was opened by. */
    public Path path() {
        return path;
    }

    /** Whether it is a file without a name that this process made: no part of what a user named. */
    public boolean isOwn() {
        return own;
    }

    /** The open descriptor, read-only; valid until {@link #close()}. */
    public int fd() {
        return fd;
    }

    /** {@link Linux#readsWithoutWaiting} of the open file, asked once. */
    public boolean readsWithoutWaiting() {
        Boolean known = readsWithoutWaiting;
        if (known == null) {
            readsWithoutWaiting = known = Linux.readsWithoutWaiting(fd);
        }
        return known;
    }

    /**
     * Whether the open file is no longer the one that was opened: then what was checked is not what is served.
     *
     * <p>A truncation or a write shows in size or modification time. A file replaced under its name does not count: the
     * open one is served on. One system call; any thread.
     *
     * @return what changed, as a refusal that names the file; empty if nothing did
     * @throws LinuxException if the file cannot be asked
     */
    public Optional<ImageException> changed() throws LinuxException {
        FileStatus now = Linux.status(fd);
        if (now.size() != status.size()) {
            return Optional.of(new ImageException(
                    name(), "size", now.size() + " bytes", status.size() + ", as when it was opened and checked"));
        }
        if (now.modifiedNanos() != status.modifiedNanos() && !status.isBlockDevice()) {
            return Optional.of(new ImageException(
                    name(),
                    "modification time",
                    instant(now),
                    instant(status) + ", as when it was opened and checked"));
        }
        return Optional.empty();
    }

    private static Instant instant(FileStatus status) {
        return Instant.ofEpochSecond(
                Math.floorDiv(status.modifiedNanos(), 1_000_000_000L),
                Math.floorMod(status.modifiedNanos(), 1_000_000_000L));
    }

    /** Size, identity and modification time when it was opened. */
    public FileStatus status() {
        return status;
    }

    @Override
    public String name() {
        return path.toString();
    }

    @Override
    public long size() {
        return status.size();
    }

    @Override
    public void read(long offset, MemorySegment target) throws IOException {
        long n = Linux.read(fd, target, offset);
        if (n < target.byteSize()) {
            throw new ImageException(
                    name(), "size", (offset + n) + " bytes", "at least " + (offset + target.byteSize()) + " bytes");
        }
    }

    @Override
    public synchronized void close() {
        if (!closed) {
            closed = true;
            Linux.close(fd);
        }
    }

    @Override
    public String toString() {
        return "Blob[" + path + ", " + status.size() + " bytes]";
    }

    /** Whether {@code e} says that the file is not there. */
    public static boolean isMissing(LinuxException e) {
        return e.errno() == Errno.ENOENT;
    }
}

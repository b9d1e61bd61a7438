// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.export;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Source;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.FileStatus;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;

/**
 * A file that gets its name only when it is complete and on the disk: until then it is a {@code .NAME.PID.partial} in
 * the same directory, which goes away on any failure and on an interrupt.
 */
public final class OutputFile implements AutoCloseable {
    private final Path target;
    private final boolean replace;
    private final Path partial;
    private final Thread atExit;
    private final int fd;
    private boolean open = true;

    /**
     * Creates the partial file.
     *
     * @param replace whether a regular file of that name may be replaced
     * @throws FileAlreadyExistsException if there is one and it may not
     */
    public OutputFile(Path target, boolean replace) throws IOException {
        this.target = target.toAbsolutePath();
        this.replace = replace;
        refuseExisting(this.target, replace);
        partial = this.target.resolveSibling("." + this.target.getFileName() + "." + Linux.processId() + ".partial");
        Files.createFile(partial);
        atExit = new Thread(this::deletePartial, "delete-partial");
        Runtime.getRuntime().addShutdownHook(atExit);
        try {
            fd = Linux.open(partial.toString(), Linux.O_RDWR);
        } catch (IOException e) {
            forget();
            throw e;
        }
    }

    /**
     * Refuses a name under which {@code flat} must not be written: one that exists, unless it may be replaced, and one
     * of the files that the device is made of, which replacing would destroy.
     *
     * @param replace whether a regular file of that name may be replaced
     */
    public static void refuse(FlatImage flat, Path target, boolean replace) throws IOException {
        refuseExisting(target, replace);
        if (!Files.exists(target)) {
            return;
        }
        try (Blob existing = Blob.open(target)) {
            FileStatus status = existing.status();
            for (Source source : flat.sources()) {
                if (source instanceof Blob blob
                        && blob.status().device() == status.device()
                        && blob.status().inode() == status.inode()) {
                    throw new FileSystemException(target.toString(), null, "it is a part of the image");
                }
            }
        }
    }

    private static void refuseExisting(Path target, boolean replace) throws IOException {
        if (!Files.exists(target, LinkOption.NOFOLLOW_LINKS)) {
            return;
        }
        if (!replace) {
            throw new FileAlreadyExistsException(
                    target.toString(), null, "it exists already; --force would replace it");
        }
        if (!Files.isRegularFile(target, LinkOption.NOFOLLOW_LINKS)) {
            throw new FileSystemException(target.toString(), null, "it is no regular file and is not replaced");
        }
    }

    /** The descriptor to write to, valid until {@link #commit} or {@link #close}. */
    public int fd() {
        return fd;
    }

    /**
     * Writes all of {@code bytes} at {@code offset}; a file that is longer than what is written has holes.
     *
     * @param bytes native memory
     */
    public void write(MemorySegment bytes, long offset) throws IOException {
        Linux.write(fd, bytes, offset);
    }

    /** Writes all of {@code bytes} at {@code offset}. */
    public void write(byte[] bytes, long offset) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            write(arena.allocateFrom(ValueLayout.JAVA_BYTE, bytes), offset);
        }
    }

    /** Makes the file {@code bytes} long; what was not written is a hole. */
    public void size(long bytes) throws IOException {
        Linux.truncate(fd, bytes);
    }

    /** Makes the content durable and gives the file its name. */
    public void commit() throws IOException {
        Linux.sync(fd);
        if (replace) {
            refuseExisting(target, replace);
            Files.move(partial, target, StandardCopyOption.ATOMIC_MOVE);
        } else {
            renameNew();
        }
        syncDirectory();
        close();
    }

    private void renameNew() throws IOException {
        try {
            Linux.renameNoReplace(partial.toString(), target.toString());
        } catch (LinuxException e) {
            switch (e.errno()) {
                case Errno.EEXIST -> refuseExisting(target, replace);
                // file systems without it, for example NFS
                case Errno.EINVAL, Errno.ENOSYS -> {
                    refuseExisting(target, replace);
                    Files.move(partial, target, StandardCopyOption.ATOMIC_MOVE);
                    return;
                }
                default -> {}
            }
            throw e;
        }
    }

    private void syncDirectory() throws IOException {
        Path parent = target.getParent();
        int directory = Linux.open(parent == null ? "/" : parent.toString(), Linux.O_RDONLY);
        try {
            Linux.sync(directory);
        } finally {
            Linux.close(directory);
        }
    }

    /** Closes the descriptor, and deletes what was not committed. */
    @Override
    public void close() {
        if (open) {
            open = false;
            Linux.close(fd);
            forget();
        }
    }

    private void forget() {
        deletePartial();
        try {
            Runtime.getRuntime().removeShutdownHook(atExit);
        } catch (IllegalStateException exiting) {
            atExit.setName("delete-partial (exiting)"); // it runs already
        }
    }

    private void deletePartial() {
        try {
            Files.deleteIfExists(partial);
        } catch (IOException e) {
            System.getLogger(OutputFile.class.getName())
                    .log(System.Logger.Level.WARNING, "cannot delete {0}: {1}", partial, e.getMessage());
        }
    }
}

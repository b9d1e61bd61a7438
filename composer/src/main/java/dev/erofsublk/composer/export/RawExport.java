// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.export;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.Decoded;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Source;
import dev.erofsublk.composer.Zeros;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Optional;
import java.util.function.LongConsumer;

/**
 * Writes a device as one sparse file: what a server would deliver, byte for byte.
 *
 * <p>Holes of the device and holes of its files stay holes. The kernel copies between files, and shares blocks where
 * the file system can; nothing passes through this process but what is decoded or was repaired.
 */
public final class RawExport {
    private static final int BUFFER = 1 << 20;
    /** So that progress shows, and an interrupt is noticed. */
    private static final long COPY_AT_ONCE = 64L << 20;

    private final FlatImage flat;
    private final int out;
    private final LongConsumer progress;
    private final MemorySegment buffer;
    private final MemorySegment zeros;
    private boolean copyRange = true;

    private RawExport(FlatImage flat, int out, LongConsumer progress, Arena arena) {
        this.flat = flat;
        this.out = out;
        this.progress = progress;
        buffer = arena.allocate(BUFFER, 4096);
        zeros = arena.allocate(BUFFER, 4096);
    }

    /**
     * Writes {@code flat} to {@code target}, which appears when it is complete or not at all.
     *
     * @param replace whether an existing file may be replaced
     * @param progress gets the bytes of the device done so far
     * @throws ImageException if a file changed meanwhile; then there is no output
     */
    public static void write(FlatImage flat, Path target, boolean replace, LongConsumer progress) throws IOException {
        OutputFile.refuse(flat, target, replace);
        try (OutputFile file = new OutputFile(target, replace)) {
            copy(flat, file, progress);
            file.commit();
        }
    }

    /**
     * Writes the bytes of {@code flat} to the start of {@code file}, for formats that are a device with something
     * behind it.
     *
     * @param file empty
     * @param progress gets the bytes of the device done so far
     * @throws ImageException if a file of the image changed meanwhile
     */
    public static void copy(FlatImage flat, OutputFile file, LongConsumer progress) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            file.size(flat.size());
            new RawExport(flat, file.fd(), progress, arena).writeAll();
        }
        for (Source source : flat.sources()) {
            Optional<ImageException> changed =
                    source instanceof Blob blob ? blob.changed() : Optional.<ImageException>empty();
            if (changed.isPresent()) {
                throw changed.get();
            }
        }
    }

    private void writeAll() throws IOException {
        for (int i = 0; i < flat.extentCount(); i++) {
            Extent extent = flat.extent(i);
            switch (extent.source()) {
                case Zeros zeros -> progress.accept(extent.end());
                case Blob blob -> copy(blob, extent);
                case Bytes bytes -> transfer(bytes, extent, 0, extent.length());
                case Decoded decoded -> transfer(decoded, extent, 0, extent.length());
            }
        }
    }

    /** Copies what of the extent is not in a hole of the file. */
    private void copy(Blob blob, Extent extent) throws IOException {
        for (long done = 0; done < extent.length(); ) {
            long data = nextData(blob, extent.sourceOffset() + done);
            if (data < 0 || data - extent.sourceOffset() >= extent.length()) {
                progress.accept(extent.end());
                return;
            }
            long start = Math.max(done, data - extent.sourceOffset());
            long end = Math.min(extent.length(), dataEnd(blob, data) - extent.sourceOffset());
            if (end <= start) {
                throw new ImageException(blob.name(), "size", "smaller than before", blob.size() + " bytes");
            }
            copyData(blob, extent, start, end);
            done = end;
        }
    }

    private static long nextData(Blob blob, long offset) throws LinuxException {
        try {
            return Linux.seekData(blob.fd(), offset);
        } catch (LinuxException e) {
            if (e.errno() == Errno.EINVAL) {
                return offset; // not a file system's file
            }
            throw e;
        }
    }

    private static long dataEnd(Blob blob, long offset) throws LinuxException {
        try {
            return Linux.seekHole(blob.fd(), offset);
        } catch (LinuxException e) {
            if (e.errno() == Errno.EINVAL) {
                return blob.size();
            }
            throw e;
        }
    }

    private void copyData(Blob blob, Extent extent, long start, long end) throws IOException {
        for (long done = start; copyRange && done < end; ) {
            long n;
            try {
                n = Linux.copyRange(
                        blob.fd(),
                        extent.sourceOffset() + done,
                        out,
                        extent.start() + done,
                        Math.min(COPY_AT_ONCE, end - done));
            } catch (LinuxException e) {
                switch (e.errno()) {
                    case Errno.EXDEV, Errno.EINVAL, Errno.EOPNOTSUPP, Errno.ENOSYS, Errno.EPERM -> {
                        copyRange = blob.status().isRegularFile() && e.errno() == Errno.EINVAL;
                        transfer(blob, extent, done, end);
                        return;
                    }
                    default -> throw e;
                }
            }
            if (n == 0) { // some file systems say so instead of an error; reading tells a truncated file
                transfer(blob, extent, done, end);
                return;
            }
            done += n;
            progress.accept(extent.start() + done);
            start = done;
        }
        transfer(blob, extent, start, end);
    }

    /** Reads and writes bytes [start, end) of an extent; of zeros nothing is written. */
    private void transfer(Source source, Extent extent, long start, long end) throws IOException {
        for (long done = start; done < end; ) {
            MemorySegment part = buffer.asSlice(0, Math.min(BUFFER, end - done));
            source.read(extent.sourceOffset() + done, part);
            if (part.mismatch(zeros.asSlice(0, part.byteSize())) != -1) {
                Linux.write(out, part, extent.start() + done);
            }
            done += part.byteSize();
            progress.accept(extent.start() + done);
        }
    }
}

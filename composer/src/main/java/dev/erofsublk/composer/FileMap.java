// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.IdentityHashMap;

/**
 * A {@link FlatImage} as files: for each byte of the device, the open file that holds it and where. What an
 * {@link AddressSpace} is for a server that lets the kernel copy from memory, this is for one that lets it read files.
 *
 * <pre>
 *   device          | metadata | hole |   blob 1   |  repaired  |  blob 2  |
 *   blobs           | file 0          |   file 1   |            |  file 2  |      where the extents say
 *   file in memory             |  0   |            |   bytes    |                 at the device's own offsets
 * </pre>
 *
 * <p>What no file holds lies in a file in memory that is as large as the device: its holes are the device's, and take
 * no memory. A blob's file is opened once more, for reading past the page cache ({@code O_DIRECT}) where its file system
 * and all its extents allow that: the device's reader keeps the bytes anyway, and nothing is cached twice. Bytes that
 * are decoded are read from their cache file, once they are in it.
 *
 * <p>Immutable and thread-safe; looking up allocates nothing. The image stays the caller's, and open as long as this.
 */
public final class FileMap implements AutoCloseable {
    private static final int COPY_BYTES = 1 << 20;

    private final int[] descriptors;
    private final RunTable table; // marked with the index of the file
    private boolean closed;

    private FileMap(int[] descriptors, RunTable table) {
        this.descriptors = descriptors;
        this.table = table;
    }

    /**
     * Opens the files of {@code image}.
     *
     * @param blockSize no read begins or ends anywhere but at a multiple of this, in bytes
     * @throws IOException if a file cannot be opened once more, or bytes in memory cannot be read
     */
    public static FileMap open(FlatImage image, int blockSize) throws IOException {
        Opening opening = new Opening(image, blockSize);
        try {
            opening.open();
            return new FileMap(opening.descriptors(), opening.runs.build(image.size()));
        } catch (IOException | RuntimeException e) {
            opening.close();
            throw e;
        }
    }

    /** The open files; runs name them by their index here. */
    public int[] descriptors() {
        return descriptors.clone();
    }

    /** The run that holds byte {@code offset} of the device, which is within {@code [0, size)}: bytes that lie together in a file. */
    public int run(long offset) {
        return table.run(offset);
    }

    /** The device offset behind the last byte of run {@code run}, which is where the next begins. */
    public long end(int run) {
        return table.end(run);
    }

    /** The index of the file that run {@code run} lies in. */
    public int file(int run) {
        return (int) table.mark(run);
    }

    /** Where in its file byte {@code offset} of the device is, which lies in run {@code run}. */
    public long fileOffset(int run, long offset) {
        return table.delta(run) + offset;
    }

    /** Closes the files; may be called twice by the same owner. */
    @Override
    public void close() {
        if (!closed) {
            closed = true;
            for (int descriptor : descriptors) {
                Linux.close(descriptor);
            }
        }
    }

    /** The work of opening, and the state that is only needed meanwhile. */
    private static final class Opening {
        private final FlatImage image;
        private final int blockSize;
        private final IdentityHashMap<Source, Integer> fileOfSource = new IdentityHashMap<>();
        /** All positions of a source's extents, or-ed: what divides this divides each of them. */
        private final IdentityHashMap<Source, Long> positions = new IdentityHashMap<>();

        private int memory = -1;
        private int[] descriptors = new int[4];
        private int files;
        private final RunTable.Builder runs;

        Opening(FlatImage image, int blockSize) {
            this.image = image;
            this.blockSize = blockSize;
            runs = new RunTable.Builder(image.extentCount());
            for (int i = 0; i < image.extentCount(); i++) {
                Extent extent = image.extent(i);
                positions.merge(
                        extent.source(),
                        extent.start() | extent.length() | extent.sourceOffset(),
                        (all, one) -> all | one);
            }
        }

        void open() throws IOException {
            for (int i = 0; i < image.extentCount(); i++) {
                Extent extent = image.extent(i);
                switch (extent.source()) {
                    case Zeros zeros -> runs.add(extent.start(), 0, memory());
                    case Bytes bytes -> {
                        runs.add(extent.start(), 0, memory());
                        write(extent);
                    }
                    case Blob blob -> addFile(extent, blob);
                    case Decoded decoded -> addFile(extent, decoded.cache());
                }
            }
        }

        private void addFile(Extent extent, Blob blob) throws LinuxException {
            Integer file = fileOfSource.get(extent.source());
            if (file == null) {
                file = addDescriptor(Linux.reopen(blob.fd(), flags(extent.source(), blob)));
                fileOfSource.put(extent.source(), file);
            }
            runs.add(extent.start(), extent.sourceOffset() - extent.start(), file);
        }

        private int flags(Source source, Blob blob) throws LinuxException {
            if (Linux.isMemoryFile(blob.fd())) {
                return Linux.O_RDONLY | Linux.O_NONBLOCK;
            }
            // what is decoded was written just now: past the page cache, a read would wait for the disk to have it
            boolean direct =
                    source instanceof Blob && !blob.isOwn() && allows(source, Linux.directAlignment(blob.fd()));
            return Linux.O_RDONLY | (direct ? Linux.O_DIRECT : 0);
        }

        private boolean allows(Source source, int alignment) {
            return alignment > 0 && blockSize % alignment == 0 && positions.getOrDefault(source, 0L) % alignment == 0;
        }

        private int memory() throws LinuxException {
            if (memory < 0) {
                // io_uring takes a file in memory, which never waits, for one that does unless it is opened so
                int file = Linux.memoryFile("erofs-ublk");
                try {
                    Linux.truncate(file, image.size());
                    memory = addDescriptor(Linux.reopen(file, Linux.O_RDWR | Linux.O_NONBLOCK));
                } finally {
                    Linux.close(file);
                }
            }
            return memory;
        }

        private void write(Extent extent) throws IOException {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment buffer = arena.allocate(Math.min(extent.length(), COPY_BYTES));
                for (long done = 0; done < extent.length(); done += buffer.byteSize()) {
                    MemorySegment some = buffer.asSlice(0, Math.min(buffer.byteSize(), extent.length() - done));
                    extent.source().read(extent.sourceOffset() + done, some);
                    Linux.write(descriptors[memory], some, extent.start() + done);
                }
            }
        }

        private int addDescriptor(int descriptor) {
            if (files == descriptors.length) {
                descriptors = Arrays.copyOf(descriptors, files * 2);
            }
            descriptors[files] = descriptor;
            return files++;
        }

        int[] descriptors() {
            return Arrays.copyOf(descriptors, files);
        }

        void close() {
            for (int i = 0; i < files; i++) {
                Linux.close(descriptors[i]);
            }
        }
    }
}

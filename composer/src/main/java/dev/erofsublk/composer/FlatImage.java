// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Objects;

/**
 * A device, flattened: extents in ascending order that cover every byte from 0 to {@link #size()} without gap or
 * overlap. The only language between format readers and servers.
 *
 * <p>Immutable and thread-safe. It owns its sources and closes them.
 *
 * <p>Kept as three arrays, 20 bytes an extent, because a sparse disk image may have millions of them.
 */
public final class FlatImage implements AutoCloseable {
    /** The unit of everything on a block device, in bytes. */
    public static final int SECTOR = 512;

    /** What an extent takes of the heap. */
    public static final int BYTES_PER_EXTENT = 20;

    private final int blockSize;
    private final long[] starts; // one more than there are extents: the last is the size of the device
    private final int[] sourceOf;
    private final long[] sourceOffsets;
    private final List<Source> sources;

    private FlatImage(Builder b) {
        blockSize = b.blockSize;
        starts = Arrays.copyOf(b.starts, b.count + 1);
        starts[b.count] = b.size;
        sourceOf = Arrays.copyOf(b.sourceOf, b.count);
        sourceOffsets = Arrays.copyOf(b.sourceOffsets, b.count);
        sources = List.copyOf(b.sources);
    }

    /**
     * Starts a device of no extents yet.
     *
     * @param blockSize the logical block size that the device should have: a power of two, 512 to 4096
     */
    public static Builder builder(int blockSize) {
        return new Builder(blockSize);
    }

    /** Bytes of the device, a multiple of 512. */
    public long size() {
        return starts[sourceOf.length];
    }

    /** The logical block size that suits the content, in bytes: a power of two, 512 to 4096. */
    public int blockSize() {
        return blockSize;
    }

    public int extentCount() {
        return sourceOf.length;
    }

    /** Extent {@code index}, 0 being the one at the device's first byte. */
    public Extent extent(int index) {
        return new Extent(
                starts[index], starts[index + 1] - starts[index], sources.get(sourceOf[index]), sourceOffsets[index]);
    }

    /** The index of the extent that holds byte {@code offset} of the device; O(log n). */
    public int indexOf(long offset) {
        if (offset < 0 || offset >= size()) {
            throw new IndexOutOfBoundsException("offset " + offset + " of a device of " + size() + " bytes");
        }
        int found = Arrays.binarySearch(starts, 0, sourceOf.length, offset);
        return found >= 0 ? found : -found - 2;
    }

    /**
     * Reads {@code target.byteSize()} bytes of the device from {@code offset} on, as a server would deliver them.
     *
     * <p>For tools, which read once and in order; servers use an {@link AddressSpace}.
     *
     * @param target native memory
     * @throws IndexOutOfBoundsException if some of the bytes are not on the device
     * @throws IOException if a source cannot deliver them
     */
    public void read(long offset, MemorySegment target) throws IOException {
        Objects.checkFromIndexSize(offset, target.byteSize(), size());
        long done = 0;
        for (int i = target.byteSize() == 0 ? 0 : indexOf(offset); done < target.byteSize(); i++) {
            long skip = offset + done - starts[i];
            long bytes = Math.min(starts[i + 1] - starts[i] - skip, target.byteSize() - done);
            sources.get(sourceOf[i]).read(sourceOffsets[i] + skip, target.asSlice(done, bytes));
            done += bytes;
        }
    }

    /** The distinct sources, in the order in which they were first used. */
    public List<Source> sources() {
        return sources;
    }

    @Override
    public void close() {
        for (int i = sources.size(); i-- > 0; ) {
            sources.get(i).close();
        }
    }

    /** Lays extents one behind the other. Neighbours that continue each other become one. */
    public static final class Builder {
        private final int blockSize;
        private final List<Source> sources = new ArrayList<>();
        private final IdentityHashMap<Source, Integer> indexes = new IdentityHashMap<>();
        private long[] starts = new long[16];
        private int[] sourceOf = new int[15];
        private long[] sourceOffsets = new long[15];
        private int count;
        private long size;

        private Builder(int blockSize) {
            if (blockSize < SECTOR || blockSize > 4096 || Integer.bitCount(blockSize) != 1) {
                throw new IllegalArgumentException("block size " + blockSize);
            }
            this.blockSize = blockSize;
        }

        /** The bytes laid so far, which is where the next extent will start. */
        public long size() {
            return size;
        }

        /**
         * Lays the next extent; a length of 0 adds nothing.
         *
         * @param length bytes, a multiple of 512
         * @param source with all the bytes that the extent needs: who reads a format has checked that before
         * @param sourceOffset offset of the extent's first byte in the source
         */
        public Builder append(long length, Source source, long sourceOffset) {
            if (length < 0 || length % SECTOR != 0 || sourceOffset < 0) {
                throw new IllegalArgumentException(
                        "extent of " + length + " bytes at source offset " + sourceOffset + " of " + source.name());
            }
            if (source != Zeros.INSTANCE && Math.addExact(sourceOffset, length) > source.size()) {
                throw new IllegalArgumentException("extent [" + sourceOffset + ", +" + length + ") beyond the "
                        + source.size() + " bytes of " + source.name());
            }
            if (length == 0) {
                return this;
            }
            int index = indexes.computeIfAbsent(source, s -> {
                sources.add(s);
                return sources.size() - 1;
            });
            if (!continues(index, sourceOffset)) {
                grow();
                starts[count] = size;
                sourceOf[count] = index;
                sourceOffsets[count] = source == Zeros.INSTANCE ? 0 : sourceOffset;
                count++;
            }
            size = Math.addExact(size, length);
            return this;
        }

        /**
         * Lays what {@code image} has in a range: the way in which a child takes bytes from its parent.
         *
         * @param offset first byte of the range, which lies within the image; any value
         */
        public Builder append(long length, FlatImage image, long offset) {
            long end = Math.addExact(offset, length);
            Objects.checkFromToIndex(offset, end, image.size());
            long at = offset;
            for (int i = offset < end ? image.indexOf(offset) : 0; at < end; i++) {
                long stop = Math.min(end, image.starts[i + 1]);
                append(
                        stop - at,
                        image.sources.get(image.sourceOf[i]),
                        image.sourceOffsets[i] + (at - image.starts[i]));
                at = stop;
            }
            return this;
        }

        /** Extents laid so far: what a reader bounds where an image could ask for any number of them. */
        public int extentCount() {
            return count;
        }

        /** Lays zeros. */
        public Builder zeros(long length) {
            return append(length, Zeros.INSTANCE, 0);
        }

        /** Lays zeros up to {@code offset}, which is not before {@link #size()}. */
        public Builder zerosTo(long offset) {
            return zeros(offset - size);
        }

        private boolean continues(int source, long offset) {
            if (count == 0 || sourceOf[count - 1] != source) {
                return false;
            }
            return sources.get(source) == Zeros.INSTANCE
                    || sourceOffsets[count - 1] + (size - starts[count - 1]) == offset;
        }

        private void grow() {
            if (count == sourceOf.length) {
                int capacity = Math.addExact(count, count / 2 + 1);
                starts = Arrays.copyOf(starts, capacity + 1);
                sourceOf = Arrays.copyOf(sourceOf, capacity);
                sourceOffsets = Arrays.copyOf(sourceOffsets, capacity);
            }
        }

        /** The sources used so far, for closing them when the building is given up. */
        public List<Source> sources() {
            return Collections.unmodifiableList(sources);
        }

        public FlatImage build() {
            if (size == 0) {
                throw new IllegalStateException("a device of no bytes");
            }
            return new FlatImage(this);
        }
    }
}

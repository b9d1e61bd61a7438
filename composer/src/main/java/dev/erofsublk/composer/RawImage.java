// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;

/**
 * A file or block device that is the device's bytes as they are. No byte of it is interpreted.
 *
 * <p>A last sector that the file fills only in part is filled with zeros, so that no byte of the file is lost.
 */
public final class RawImage implements Image {
    private final Blob blob;
    private final FlatImage flat;

    private RawImage(Blob blob, FlatImage flat) {
        this.blob = blob;
        this.flat = flat;
    }

    /**
     * Opens a raw image.
     *
     * @throws ImageException if it is empty
     * @throws IOException if it cannot be read
     */
    public static RawImage open(Path path) throws IOException {
        Blob blob = Blob.open(path);
        try {
            if (blob.size() == 0) {
                throw new ImageException(blob.name(), "size", 0, "a byte at least");
            }
            long whole = blob.size() & -FlatImage.SECTOR;
            int rest = (int) (blob.size() - whole);
            FlatImage.Builder flat = FlatImage.builder(FlatImage.SECTOR).append(whole, blob, 0);
            if (rest > 0) {
                flat.append(FlatImage.SECTOR, lastSector(blob, whole, rest), 0);
            }
            return new RawImage(blob, flat.build());
        } catch (IOException | RuntimeException e) {
            blob.close();
            throw e;
        }
    }

    private static Bytes lastSector(Blob blob, long offset, int length) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment segment = arena.allocate(length);
            blob.read(offset, segment);
            return new Bytes(
                    blob.name() + " (last sector)",
                    Arrays.copyOf(segment.toArray(ValueLayout.JAVA_BYTE), FlatImage.SECTOR));
        }
    }

    @Override
    public String format() {
        return "raw";
    }

    @Override
    public FlatImage flat() {
        return flat;
    }

    @Override
    public void describe(Description description) {
        Map<String, Object> row = description.row("raw");
        row.put("file", blob.name());
        row.put("file_size", blob.size());
        row.put("padding", flat.size() - blob.size());
    }

    @Override
    public void close() {
        flat.close();
        blob.close();
    }
}

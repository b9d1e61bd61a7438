// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.Decoded;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Source;
import dev.erofsublk.composer.Zeros;
import dev.erofsublk.composer.export.OutputFile;
import dev.erofsublk.uring.FileStatus;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.zip.CRC32;
import org.jspecify.annotations.Nullable;

/**
 * Writes a descriptor over the files of a {@link FlatImage}, with which VMware's products, QEMU and others read the
 * device without a copy of it.
 *
 * <p>It holds {@code RW n FLAT "file" offset} lines only: QEMU silently skips every other kind and moves what follows
 * (facts/vmdisk.md §0.1). So holes refer to a real file of zeros beside the descriptor, sparse and as large as the
 * largest of them ({@code NAME-zeros.raw}), and bytes that are in no file, or not at a sector of one, are written
 * beside it too ({@code NAME-bytes.raw}). Names are absolute.
 */
public final class VmdkDescriptorWriter {
    /** The most that VMware puts into one extent of {@code twoGbMaxExtentFlat}, in bytes. QEMU needs no limit. */
    public static final long TWO_GIB = 1L << 31;

    private static final int COPY_BYTES = 1 << 20;

    private final FlatImage flat;
    private final Path descriptor;
    private final boolean replace;
    private final long maxExtent;
    private final StringBuilder lines = new StringBuilder();
    private final CRC32 contentId = new CRC32();
    private final Map<Source, Path> names = new HashMap<>();
    private final Path zerosPath;
    private final Path bytesPath;
    private long zerosSize;
    private long bytesSize;
    private @Nullable OutputFile bytesFile;

    private VmdkDescriptorWriter(FlatImage flat, Path descriptor, boolean replace, long maxExtent) throws IOException {
        this.flat = flat;
        this.descriptor = descriptor;
        this.replace = replace;
        this.maxExtent = maxExtent;
        Path absolute = descriptor.toAbsolutePath();
        Path folder = absolute.getParent();
        Path name = absolute.getFileName();
        if (folder == null || name == null) {
            throw new ImageException(descriptor.toString(), "name", "a directory's", "a file's");
        }
        Path real = folder.toRealPath();
        String stem = name.toString().replaceFirst("\\.vmdk$", "");
        zerosPath = real.resolve(stem + "-zeros.raw");
        bytesPath = real.resolve(stem + "-bytes.raw");
    }

    /** {@link #write(FlatImage, Path, boolean, long)} with extents of at most {@link #TWO_GIB}. */
    public static void write(FlatImage flat, Path descriptor, boolean replace) throws IOException {
        write(flat, descriptor, replace, TWO_GIB);
    }

    /**
     * Writes {@code descriptor}, and the files it needs beside it, each at once and whole; the descriptor last.
     *
     * @param replace whether existing files of these names may be replaced
     * @param maxExtent bytes of an extent at most, a positive multiple of 512
     * @throws ImageException if a name cannot stand in a descriptor, if bytes are in no file but have to be decoded, if
     *     a file of the image changed, or if the descriptor would be larger than what QEMU reads of it
     */
    public static void write(FlatImage flat, Path descriptor, boolean replace, long maxExtent) throws IOException {
        if (maxExtent <= 0 || maxExtent % Limits.SECTOR != 0) {
            throw new IllegalArgumentException("extents of at most " + maxExtent + " bytes");
        }
        new VmdkDescriptorWriter(flat, descriptor, replace, maxExtent).write();
    }

    private void write() throws IOException {
        OutputFile.refuse(flat, descriptor, replace);
        try {
            for (int i = 0; i < flat.extentCount(); i++) {
                add(flat.extent(i));
            }
            byte[] text = text(flat.size());
            requireSize(text.length);
            try (OutputFile file = new OutputFile(descriptor, replace)) {
                file.write(text, 0);
                writeZeros();
                if (bytesFile != null) {
                    bytesFile.commit();
                }
                file.commit();
            }
        } finally {
            if (bytesFile != null) {
                bytesFile.close();
            }
        }
    }

    private void add(Extent extent) throws IOException {
        switch (extent.source()) {
            case Zeros zeros -> {
                zerosSize = Math.max(zerosSize, Math.min(extent.length(), maxExtent));
                for (long left = extent.length(); left > 0; left -= maxExtent) {
                    addLine(Math.min(left, maxExtent), zerosPath, 0);
                }
            }
            case Blob blob -> {
                if (extent.sourceOffset() % Limits.SECTOR == 0) {
                    addLines(extent.length(), name(blob), extent.sourceOffset());
                } else {
                    copy(extent);
                }
            }
            case Bytes bytes -> copy(extent);
            case Decoded decoded ->
                throw new ImageException(
                        decoded.name(),
                        "content",
                        "encoded",
                        "bytes that a descriptor can refer to (export --raw writes them out)");
        }
    }

    private void addLines(long length, Path file, long offset) throws ImageException {
        for (long done = 0; done < length; done += maxExtent) {
            addLine(Math.min(length - done, maxExtent), file, offset + done);
        }
    }

    private void addLine(long length, Path file, long offset) throws ImageException {
        lines.append("RW ")
                .append(length / Limits.SECTOR)
                .append(" FLAT \"")
                .append(requireName(file))
                .append("\" ")
                .append(offset / Limits.SECTOR)
                .append('\n');
        requireSize(lines.length());
    }

    /** The blob's full name, which must still be that of the open file. */
    private Path name(Blob blob) throws IOException {
        Path known = names.get(blob);
        if (known != null) {
            return known;
        }
        Path real = blob.path().toRealPath();
        FileStatus status = blob.status();
        try (Blob again = Blob.open(real)) {
            boolean same =
                    again.status().device() == status.device() && again.status().inode() == status.inode();
            if (!same) {
                throw new ImageException(blob.name(), "file", "another one by now", "the file that is open");
            }
        }
        Optional<ImageException> changed = blob.changed();
        if (changed.isPresent()) {
            throw changed.get();
        }
        update(status.size());
        update(status.modifiedNanos());
        names.put(blob, real);
        return real;
    }

    private void update(long value) {
        contentId.update(ByteBuffer.allocate(Long.BYTES).putLong(0, value));
    }

    private static String requireName(Path file) throws ImageException {
        String name = file.toString();
        if (name.indexOf('"') >= 0 || name.indexOf('\r') >= 0 || name.indexOf('\n') >= 0) {
            throw new ImageException(name, "name", "one with a quote or line break", "none that ends a descriptor's");
        }
        if (name.getBytes(StandardCharsets.UTF_8).length > Limits.NAME_BYTES) {
            throw new ImageException(name, "name", "longer", "at most " + Limits.NAME_BYTES + " bytes");
        }
        return name;
    }

    private void requireSize(int length) throws ImageException {
        if (length > Limits.DESCRIPTOR_BYTES) {
            throw new ImageException(
                    descriptor.toString(),
                    "size of the descriptor",
                    length + " bytes or more",
                    "at most " + Limits.DESCRIPTOR_BYTES + ", since QEMU ignores the rest (export --raw has no limit)");
        }
    }

    /** Appends the extent's bytes to the file for bytes that are in no other. */
    private void copy(Extent extent) throws IOException {
        if (bytesFile == null) {
            OutputFile.refuse(flat, bytesPath, replace);
            bytesFile = new OutputFile(bytesPath, replace);
        }
        addLines(extent.length(), bytesPath, bytesSize);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(Math.min(COPY_BYTES, extent.length()), 8);
            for (long done = 0; done < extent.length(); done += buffer.byteSize()) {
                MemorySegment part = buffer.asSlice(0, Math.min(buffer.byteSize(), extent.length() - done));
                extent.source().read(extent.sourceOffset() + done, part);
                contentId.update(part.asByteBuffer());
                bytesFile.write(part, bytesSize);
                bytesSize += part.byteSize();
            }
        }
    }

    private void writeZeros() throws IOException {
        if (zerosSize > 0) {
            OutputFile.refuse(flat, zerosPath, replace);
            try (OutputFile file = new OutputFile(zerosPath, replace)) {
                file.size(zerosSize);
                file.commit();
            }
        }
    }

    private byte[] text(long size) {
        contentId.update(lines.toString().getBytes(StandardCharsets.UTF_8));
        return text("twoGbMaxExtentFlat", (int) contentId.getValue(), lines.toString(), size)
                .getBytes(StandardCharsets.UTF_8);
    }

    /** A descriptor of a disk without a parent. The geometry is that which QEMU and VMware give to IDE disks. */
    static String text(String createType, int cid, String extents, long size) {
        int id = cid == Descriptor.NO_PARENT ? 0 : cid;
        long cylinders = Math.min(16383, size / Limits.SECTOR / (16 * 63));
        return """
                # Disk DescriptorFile
                version=1
                CID=%s
                parentCID=ffffffff
                createType="%s"

                # Extent description
                %s
                # The Disk Data Base
                #DDB

                ddb.virtualHWVersion = "4"
                ddb.geometry.cylinders = "%d"
                ddb.geometry.heads = "16"
                ddb.geometry.sectors = "63"
                ddb.adapterType = "ide"
                """.formatted(Descriptor.hex(id), createType, extents, cylinders);
    }
}

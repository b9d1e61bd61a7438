// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.vmdk.Descriptor.ExtentLine;
import dev.erofsublk.composer.vmdk.Layer.Facts;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/** Reads an image and all below it, lowest first, and lays each over the one below. */
final class LayerReader {
    private static final int MAGIC_BYTES = 4;
    private static final int CONTENT_ID_DIGITS = 8;

    private final OpenFiles files;
    private final Set<Blob> chain = new HashSet<>(); // by identity, which is that of the file: each is opened once

    LayerReader(OpenFiles files) {
        this.files = files;
    }

    Layer read(Blob blob) throws IOException {
        if (blob.size() < MAGIC_BYTES) {
            throw new ImageException(blob.name(), "size", blob.size() + " bytes", "a VMDK: at least 4 bytes");
        }
        SectorFile file = new SectorFile(blob);
        return switch (magic(file)) {
            case SparseHeader.MAGIC -> sparse(file, HostedSparse.open(file));
            case Cowd.MAGIC ->
                throw new ImageException(
                        blob.name(), "magic", "COWD", "a descriptor (open the one that names this extent)");
            default -> inFiles(blob, DescriptorParser.parse(blob.name(), text(blob)));
        };
    }

    private static int magic(SectorFile file) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            return file.read(arena, "magic", 0, MAGIC_BYTES).get(SectorFile.U32, 0);
        }
    }

    private static byte[] text(Blob blob) throws IOException {
        if (blob.size() > Limits.DESCRIPTOR_BYTES) {
            throw new ImageException(
                    blob.name(),
                    "size",
                    blob.size() + " bytes",
                    "a sparse extent, or a descriptor of at most " + Limits.DESCRIPTOR_BYTES + " bytes");
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment text = arena.allocate(blob.size());
            blob.read(0, text);
            byte[] bytes = text.toArray(ValueLayout.JAVA_BYTE);
            int end = 0;
            while (end < bytes.length && bytes[end] != 0) {
                end++;
            }
            if (!isPadding(bytes, end)) {
                throw new ImageException(
                        blob.name(), "descriptor", "binary, or goes on behind a NUL at " + end, "VMDK magic or text");
            }
            return bytes;
        }
    }

    /**
     * Whether nothing is hidden behind the NUL at {@code nul}. When QEMU writes a content id with leading zeros over
     * another, without them, the text moves up by as many bytes, and its own end shows again behind the NUL.
     */
    private static boolean isPadding(byte[] text, int nul) {
        int end = text.length;
        while (end > nul && text[end - 1] == 0) {
            end--;
        }
        int left = end - nul - 1;
        return left <= 0
                || (left < CONTENT_ID_DIGITS
                        && left <= nul
                        && Arrays.equals(text, nul - left, nul, text, nul + 1, end));
    }

    private Layer sparse(SectorFile file, HostedSparse sparse) throws IOException {
        Descriptor descriptor = DescriptorParser.parse(file.name(), sparse.descriptor());
        if (sparse.header().isDescriptorOnly()) {
            return inFiles(file.blob(), descriptor);
        }
        ExtentLine line = descriptor.extents().get(0);
        Checks check = new Checks(file.name());
        check.that(
                descriptor.extents().size() == 1 && line.type() == Descriptor.Type.SPARSE,
                "extents",
                descriptor.extents().size() + ", the first " + line.type(),
                "one of type SPARSE: this file, whatever name the line gives");
        requireSectors(file, line, sparse.header().capacity());
        Layer parent = parent(file.blob(), descriptor);
        FlatImage.Builder builder = FlatImage.builder(Limits.SECTOR);
        sparse.lay(new Overlay(file.name(), builder, flat(parent)), files);
        return new Layer(file.name(), descriptor, builder.build(), List.of(facts(file, line, sparse.header())), parent);
    }

    private Layer inFiles(Blob blob, Descriptor descriptor) throws IOException {
        new Checks(blob.name())
                .that(
                        CreateTypes.IN_FILES.contains(descriptor.createType()),
                        "createType",
                        '"' + descriptor.createType() + '"',
                        "a type whose descriptor is a file of its own");
        Layer parent = parent(blob, descriptor);
        FlatImage.Builder builder = FlatImage.builder(Limits.SECTOR);
        Overlay out = new Overlay(blob.name(), builder, flat(parent));
        List<Facts> extents = new ArrayList<>(descriptor.extents().size());
        for (ExtentLine line : descriptor.extents()) {
            extents.add(lay(blob, line, out));
        }
        return new Layer(blob.name(), descriptor, builder.build(), List.copyOf(extents), parent);
    }

    private static @Nullable FlatImage flat(@Nullable Layer layer) {
        return layer == null ? null : layer.flat();
    }

    private @Nullable Layer parent(Blob child, Descriptor descriptor) throws IOException {
        if (!descriptor.hasParent()) {
            return null;
        }
        Checks check = new Checks(child.name());
        check.that(
                chain.add(child) && chain.size() < Limits.CHAIN,
                "parentFileNameHint",
                "one of more than " + (chain.size() - 1) + " in a chain",
                "no more than " + Limits.CHAIN + " and no circle");
        Blob blob = files.open(child.path(), descriptor.parentHint());
        check.that(
                !chain.contains(blob),
                "parentFileNameHint",
                '"' + descriptor.parentHint() + '"',
                "an image that is not itself a child of this one");
        Layer parent = read(blob);
        check.that(
                parent.descriptor().cid() == descriptor.parentCid(),
                "parentCID",
                Descriptor.hex(descriptor.parentCid()),
                Descriptor.hex(parent.descriptor().cid()) + ", the CID of " + blob.name()
                        + ": the parent was changed after this image was made");
        return parent;
    }

    private Facts lay(Blob descriptor, ExtentLine line, Overlay out) throws IOException {
        if (line.type() == Descriptor.Type.ZERO) {
            out.zeros(line.sectors() * Limits.SECTOR);
            return new Facts("", line, "zero", 0, false);
        }
        SectorFile file = new SectorFile(files.open(descriptor.path(), line.file()));
        return switch (line.type()) {
            case SPARSE, VMFSSPARSE -> laySparse(file, line, out);
            case SESPARSE -> laySeSparse(file, line, out);
            default -> layFlat(file, line, out);
        };
    }

    private static Facts layFlat(SectorFile file, ExtentLine line, Overlay out) throws IOException {
        long bytes = line.sectors() * Limits.SECTOR;
        file.require("extent of descriptor line " + line.line(), line.offset(), bytes);
        out.data(bytes, file.blob(), line.offset() * Limits.SECTOR);
        return new Facts(file.name(), line, "flat", 0, false);
    }

    private static Facts laySeSparse(SectorFile file, ExtentLine line, Overlay out) throws IOException {
        SeSparse sparse = SeSparse.open(file);
        requireSectors(file, line, sparse.capacity());
        sparse.lay(out);
        return new Facts(file.name(), line, "seSparse", SeSparse.GRAIN_SECTORS * Limits.SECTOR, false);
    }

    private Facts laySparse(SectorFile file, ExtentLine line, Overlay out) throws IOException {
        file.require("magic", 0, MAGIC_BYTES);
        if (magic(file) == Cowd.MAGIC) {
            Cowd cowd = Cowd.open(file);
            requireSectors(file, line, cowd.capacity());
            cowd.lay(out);
            return new Facts(file.name(), line, "COWD", cowd.grainSize() * Limits.SECTOR, false);
        }
        HostedSparse sparse = HostedSparse.open(file);
        requireSectors(file, line, sparse.header().capacity());
        sparse.lay(out, files);
        return facts(file, line, sparse.header());
    }

    private static Facts facts(SectorFile file, ExtentLine line, SparseHeader header) {
        return new Facts(file.name(), line, "KDMV", header.grainBytes(), header.has(SparseHeader.COMPRESSED));
    }

    /** QEMU believes the header, others the descriptor (facts/vmdisk.md §0.5): we believe neither without the other. */
    private static void requireSectors(SectorFile file, ExtentLine line, long capacity) throws ImageException {
        new Checks(file.name())
                .that(
                        capacity == line.sectors(),
                        "capacity",
                        capacity,
                        line.sectors() + " as in line " + line.line() + " of the descriptor");
    }
}

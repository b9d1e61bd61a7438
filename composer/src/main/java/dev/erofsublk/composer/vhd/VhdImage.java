// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Chain;
import dev.erofsublk.composer.disk.Fields;
import java.io.IOException;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Map;
import java.util.UUID;
import org.jspecify.annotations.Nullable;

/** A VHD image: fixed, dynamic or differencing, in one file or split, with its parents. */
public final class VhdImage implements Image {
    /** The word with which a footer begins. */
    public static final String COOKIE = Footer.COOKIE;

    private final VhdFile file;
    private final Footer footer;
    private final boolean fromCopy;
    private final @Nullable DynamicHeader header;
    private final int allocatedBlocks;
    private final @Nullable VhdImage parent;
    private final FlatImage flat;

    private VhdImage(
            VhdFile file,
            Footer footer,
            boolean fromCopy,
            @Nullable DynamicHeader header,
            int allocatedBlocks,
            @Nullable VhdImage parent,
            FlatImage flat) {
        this.file = file;
        this.footer = footer;
        this.fromCopy = fromCopy;
        this.header = header;
        this.allocatedBlocks = allocatedBlocks;
        this.parent = parent;
        this.flat = flat;
    }

    /**
     * Opens an image, its further parts and the parents that it names, and checks all of their structures.
     *
     * @param confinement where parts and parents may lie
     * @throws ImageException if one of them is damaged, not supported or not the right one
     * @throws IOException if one cannot be read
     */
    public static VhdImage open(Path path, Confinement confinement) throws IOException {
        return open(Blob.open(path), confinement, new Chain(), null);
    }

    /**
     * Takes over {@code blob}.
     *
     * @param child null for the disk that is opened, else what it is to be the parent of
     */
    private static VhdImage open(Blob blob, Confinement confinement, Chain chain, @Nullable Child child)
            throws IOException {
        VhdFile file = VhdFile.open(blob, confinement);
        try {
            chain.add(blob);
            return read(file, confinement, chain, child);
        } catch (IOException | RuntimeException e) {
            file.close();
            throw e;
        }
    }

    /**
     * What a child needs of its parent.
     *
     * @param size bytes of the device, the same for the whole chain: the size rule is applied to the opened disk
     */
    private record Child(UUID parentUuid, long currentSize, long size) {
        void check(Footer parent, String name) throws ImageException {
            if (!parent.uuid().equals(parentUuid)) {
                throw new ImageException(name, "footer.UUID", parent.uuid(), "the child's parent UUID, " + parentUuid);
            }
            if (parent.currentSize() != currentSize) {
                throw new ImageException(
                        name, "footer.current size", parent.currentSize(), "that of the child, " + currentSize);
            }
        }
    }

    private static VhdImage read(VhdFile file, Confinement confinement, Chain chain, @Nullable Child child)
            throws IOException {
        Fields copy = Fields.read(file.bytes(), file.name(), "footer copy", 0, Footer.BYTES, ByteOrder.BIG_ENDIAN);
        boolean fromCopy = !Footer.whole(file.tail());
        Fields used = fromCopy ? copy(file, copy) : file.tail();
        Footer footer = Footer.parse(used);
        if (child != null) {
            child.check(footer, file.name());
        }
        long size = child == null ? footer.size(used) : child.size;
        if (footer.type() == Footer.Type.FIXED) {
            return fixed(file, footer, size);
        }
        if (!fromCopy && Footer.whole(copy) && !footer.equals(Footer.parse(copy))) {
            throw copy.refuse("content", "other than that of the footer", "a copy of it");
        }
        DynamicHeader header = DynamicHeader.read(file.bytes(), file.name(), footer);
        VhdImage parent = footer.type() == Footer.Type.DYNAMIC
                ? null
                : openParent(
                        file, header, confinement, chain, new Child(header.parentUuid(), footer.currentSize(), size));
        try {
            BlockTable table = new BlockTable(
                    file.bytes(),
                    file.name(),
                    footer,
                    header,
                    parent == null ? null : parent.flat,
                    size,
                    fromCopy ? file.bytes().size() : file.tailOffset());
            FlatImage flat = table.flatten();
            return new VhdImage(file, footer, fromCopy, header, table.allocatedBlocks(), parent, flat);
        } catch (IOException | RuntimeException e) {
            if (parent != null) {
                parent.close();
            }
            throw e;
        }
    }

    /** The copy at the start, for a footer that is damaged; a fixed disk has none: there, these bytes are the guest's. */
    private static Fields copy(VhdFile file, Fields copy) throws ImageException {
        if (!Footer.whole(copy) || Footer.parse(copy).type() == Footer.Type.FIXED) {
            throw new ImageException(
                    file.name(),
                    "footer",
                    "damaged (%s at the end, %s at the start)"
                            .formatted(
                                    Footer.wrong(file.tail()),
                                    Footer.whole(copy) ? "a fixed disk's" : Footer.wrong(copy)),
                    "\"" + Footer.COOKIE + "\" and its checksum in the last 512 bytes, or in a copy in the first");
        }
        return copy;
    }

    private static VhdImage fixed(VhdFile file, Footer footer, long size) throws ImageException {
        if (footer.currentSize() != file.tailOffset()) {
            throw new ImageException(
                    file.name(),
                    "footer.current size",
                    footer.currentSize(),
                    "the %d bytes in front of the footer of a fixed disk".formatted(file.tailOffset()));
        }
        FlatImage flat = FlatImage.builder(FlatImage.SECTOR)
                .append(size, file.bytes(), 0)
                .build();
        return new VhdImage(file, footer, false, null, 0, null, flat);
    }

    private static VhdImage openParent(
            VhdFile file, DynamicHeader header, Confinement confinement, Chain chain, Child child) throws IOException {
        ImageException first = null;
        for (String name : header.parents()) {
            Blob blob;
            try {
                blob = confinement.open(file.first().path(), name);
            } catch (ImageException e) {
                first = first == null ? e : first;
                continue;
            }
            return open(blob, confinement, chain, child);
        }
        throw first != null ? first : new ImageException(file.name(), "parent name", "empty", "a name");
    }

    @Override
    public String format() {
        return "vhd";
    }

    @Override
    public FlatImage flat() {
        return flat;
    }

    @Override
    public void describe(Description description) {
        for (VhdImage image = this; image != null; image = image.parent) {
            Map<String, Object> row = description.row("vhd");
            row.put("file", image.file.name());
            row.put("files", image.file.parts().size());
            row.put("kind", image.footer.type().name().toLowerCase(Locale.ROOT));
            row.put("virtual_size", image.flat.size());
            row.put("current_size", image.footer.currentSize());
            row.put(
                    "geometry",
                    "%d/%d/%d".formatted(image.footer.cylinders(), image.footer.heads(), image.footer.sectors()));
            row.put("creator", image.footer.creator());
            row.put("footer", image.fromCopy ? "copy at the start" : "at the end");
            row.put("saved_state", image.footer.savedState());
            row.put("uuid", image.footer.uuid().toString());
            if (image.header != null) {
                row.put("block_size", image.header.blockSize());
                row.put("allocated_blocks", image.allocatedBlocks);
            }
        }
    }

    /** Closes the files even if no byte of them is on the device, and the parents. */
    @Override
    public void close() {
        flat.close();
        file.close();
        if (parent != null) {
            parent.close();
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.erofs.DeviceSlot;
import dev.erofsublk.composer.erofs.Superblock;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * Reads the files of a flattened EROFS image from its flat device, repairs included: what a mount would show.
 *
 * <p>Every number in the image is untrusted. A damaged one is refused with an {@link ImageException} when it is met;
 * nothing here recurses, loops for ever, or allocates more than the few blocks at hand.
 *
 * <p>Not thread-safe: a thread takes its own with {@link #fork()}. Valid until the image is closed.
 */
public final class ErofsFileSystem {
    /** How many symbolic links a path may lead through, as in Linux. */
    private static final int MAX_LINKS = 40;
    /** Longest target of a symbolic link that Linux can follow. */
    private static final int PATH_MAX = 4096;

    private static final int COPY_BYTES = 1 << 20;

    private final String name;
    private final FlatImage flat;
    private final Superblock superblock;
    private final List<DeviceSlot> slots;
    private final Regions regions;
    private final DeviceReader reader;
    private final byte[] scratch = new byte[Inode.EXTENDED_BYTES];
    private String @Nullable [] longPrefixes;
    private @Nullable Compressed compressed;

    private ErofsFileSystem(
            String name, FlatImage flat, Superblock superblock, List<DeviceSlot> slots, Regions regions) {
        this.name = name;
        this.flat = flat;
        this.superblock = superblock;
        this.slots = slots;
        this.regions = regions;
        reader = new DeviceReader(name, flat);
    }

    /**
     * Opens the file system on {@code flat}, which stays the caller's to close.
     *
     * @param name what refusals call the image
     */
    public static ErofsFileSystem open(String name, FlatImage flat) throws IOException {
        Superblock superblock = Superblock.parse(name, bytes(flat, 0, (int) Math.min(65536, flat.size())));
        List<DeviceSlot> slots = DeviceSlot.readAll(name, flat, superblock);
        return new ErofsFileSystem(name, flat, superblock, slots, new Regions(name, superblock, slots, flat.size()));
    }

    /** Whether there is an EROFS on {@code flat}, sound or not. */
    public static boolean isOn(FlatImage flat) throws IOException {
        return flat.size() >= Superblock.OFFSET + Superblock.BYTES
                && Le.i32(bytes(flat, Superblock.OFFSET, 4), 0) == Superblock.MAGIC;
    }

    private static byte[] bytes(FlatImage flat, long offset, int length) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment segment = arena.allocate(length);
            flat.read(offset, segment);
            return segment.toArray(ValueLayout.JAVA_BYTE);
        }
    }

    /** Another view of the same image, for another thread. */
    public ErofsFileSystem fork() {
        return new ErofsFileSystem(name, flat, superblock, slots, regions);
    }

    /** What refusals call the image. */
    public String name() {
        return name;
    }

    public FlatImage flat() {
        return flat;
    }

    public Superblock superblock() {
        return superblock;
    }

    /** The device table as it is served. */
    public List<DeviceSlot> slots() {
        return slots;
    }

    Regions regions() {
        return regions;
    }

    DeviceReader reader() {
        return reader;
    }

    /** Room for one small structure, overwritten by every call. */
    byte[] scratch() {
        return scratch;
    }

    String[] longPrefixes() throws IOException {
        if (longPrefixes == null) {
            longPrefixes = Xattrs.longPrefixes(this);
        }
        return longPrefixes;
    }

    Compressed compressed() {
        if (compressed == null) {
            compressed = new Compressed(this);
        }
        return compressed;
    }

    /** The root directory. */
    public Inode root() throws IOException {
        Inode root = inode(superblock.rootNid());
        if (!root.isDirectory()) {
            throw new ImageException(name, "superblock.root_nid", superblock.rootNid(), "the inode of a directory");
        }
        return root;
    }

    /** Reads inode {@code nid}, which lies in the metadata. */
    public Inode inode(long nid) throws IOException {
        long start = superblock.bytes(superblock.metaBlock());
        long end = superblock.bytes(regions.metadataBlocks());
        if (nid < 0 && (superblock.featureIncompat() & Superblock.INCOMPAT_METABOX) != 0) {
            throw new ImageException(
                    name, "inode " + Long.toUnsignedString(nid), "in the metabox", "one outside of it");
        }
        if (nid < 0 || nid > (end - start) / Inode.COMPACT_BYTES - 1) {
            throw new ImageException(
                    name,
                    "nid",
                    Long.toUnsignedString(nid),
                    "less than %d: an inode in the metadata".formatted(Math.max(0, end - start) / Inode.COMPACT_BYTES));
        }
        long offset = start + nid * Inode.COMPACT_BYTES;
        int length = (int) Math.min(Inode.EXTENDED_BYTES, end - offset);
        reader.read(offset, scratch, 0, length, "inode", nid);
        return Inode.parse(name, nid, offset, scratch, length, superblock.epoch(), superblock.fixedNanos());
    }

    /** The entries of a directory, {@code .} and {@code ..} included, in the image's order. */
    public List<DirectoryEntry> list(Inode directory) throws IOException {
        List<DirectoryEntry> entries = new ArrayList<>();
        DirectoryBlocks.visit(this, directory, entries::add);
        return entries;
    }

    /** The inode of one name in a directory. */
    public Optional<Inode> lookup(Inode directory, String entryName) throws IOException {
        byte[] wanted = entryName.getBytes(StandardCharsets.UTF_8);
        List<DirectoryEntry> found = new ArrayList<>(1);
        DirectoryBlocks.visit(this, directory, entry -> !entry.isNamed(wanted) || !found.add(entry));
        return found.isEmpty()
                ? Optional.empty()
                : Optional.of(inode(found.getFirst().nid()));
    }

    /**
     * The inode at a path; symbolic links on the way are followed within the image.
     *
     * @param path absolute or not, it starts at the root
     * @param follow whether to follow a symbolic link at its end too
     * @return empty if there is none, or if something on the way is no directory
     * @throws ImageException if it leads through more than 40 symbolic links
     */
    public Optional<Inode> resolve(String path, boolean follow) throws IOException {
        Deque<String> rest = new ArrayDeque<>(Arrays.asList(path.split("/", -1)));
        Deque<Inode> parents = new ArrayDeque<>();
        Inode at = root();
        int links = 0;
        while (!rest.isEmpty()) {
            String step = rest.pop();
            if (step.isEmpty() || step.equals(".")) {
                continue;
            }
            if (!at.isDirectory()) {
                return Optional.empty();
            }
            if (step.equals("..")) {
                at = parents.isEmpty() ? at : parents.pop();
                continue;
            }
            Optional<Inode> found = lookup(at, step);
            if (found.isEmpty()) {
                return found;
            }
            Inode inode = found.get();
            if (inode.type() == Type.SYMLINK && (follow || !rest.isEmpty())) {
                if (++links > MAX_LINKS) {
                    throw new ImageException(name, path, "more than 40 symbolic links", "a path that ends");
                }
                String target = target(inode);
                if (target.startsWith("/")) {
                    parents.clear();
                    at = root();
                }
                List<String> steps = Arrays.asList(target.split("/", -1));
                for (int i = steps.size(); i-- > 0; ) {
                    rest.push(steps.get(i));
                }
            } else {
                parents.push(at);
                at = inode;
            }
        }
        return Optional.of(at);
    }

    /** Where a symbolic link points to. */
    public String target(Inode link) throws IOException {
        if (link.size() > PATH_MAX) {
            throw new ImageException(name, "i_size of symlink inode " + link.nid(), link.size(), "at most " + PATH_MAX);
        }
        byte[] target = new byte[(int) link.size()];
        content(link, 0, target, target.length);
        return new String(target, StandardCharsets.UTF_8);
    }

    /** The extended attributes by their full names, {@code user.note}. */
    public Map<String, byte[]> xattrs(Inode inode) throws IOException {
        return Xattrs.read(this, inode);
    }

    /**
     * The extent that holds byte {@code offset} of a file.
     *
     * @param offset less than the file's size
     */
    public FileExtent extentAt(Inode inode, long offset) throws IOException {
        if (!inode.hasData() || offset < 0 || offset >= inode.size()) {
            throw new IndexOutOfBoundsException("byte " + offset + " of inode " + inode.nid());
        }
        return inode.isCompressed() ? compressed().at(inode, offset) : DataMap.at(this, inode, offset);
    }

    /** Takes the extents of a file. */
    @FunctionalInterface
    public interface ExtentVisitor {
        void extent(FileExtent extent) throws IOException;
    }

    /** Visits the extents of a file in its order; neighbours that continue each other come as one. */
    public void extents(Inode inode, ExtentVisitor visitor) throws IOException {
        FileExtent pending = null;
        for (long offset = 0; inode.hasData() && offset < inode.size(); ) {
            FileExtent next = extentAt(inode, offset);
            if (pending != null && pending.continuedBy(next)) {
                pending = pending.with(next);
            } else {
                if (pending != null) {
                    visitor.extent(pending);
                }
                pending = next;
            }
            offset = next.end();
        }
        if (pending != null) {
            visitor.extent(pending);
        }
    }

    /** Reads a few bytes of a file through the window of metadata: directories, links, prefixes. */
    void content(Inode inode, long offset, byte[] target, int length) throws IOException {
        for (int done = 0; done < length; ) {
            long at = offset + done;
            if (at >= inode.size()) {
                throw new ImageException(name, "i_size of inode " + inode.nid(), inode.size(), "more than " + at);
            }
            if (!inode.hasData()) { // a packed inode, which only the superblock names, may be anything
                throw new ImageException(
                        name, "i_mode of inode " + inode.nid(), inode.type(), "a file, directory or symbolic link");
            }
            FileExtent extent = extentAt(inode, at);
            int bytes = (int) Math.min(length - done, extent.end() - at);
            long skip = at - extent.fileOffset();
            switch (extent.kind()) {
                case HOLE -> Arrays.fill(target, done, done + bytes, (byte) 0);
                case DATA, INLINE ->
                    reader.read(extent.address() + skip, target, done, bytes, "content of inode", inode.nid());
                case ENCODED -> System.arraycopy(compressed().decode(inode, extent), (int) skip, target, done, bytes);
            }
            done += bytes;
        }
    }

    /** Writes the content of a regular file to {@code out}. */
    public void copyTo(Inode inode, OutputStream out) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(COPY_BYTES, 4096);
            byte[] bytes = new byte[COPY_BYTES];
            extents(inode, extent -> copy(inode, extent, buffer, bytes, out));
        }
    }

    private void copy(Inode inode, FileExtent extent, MemorySegment buffer, byte[] bytes, OutputStream out)
            throws IOException {
        if (extent.kind() == FileExtent.Kind.ENCODED) {
            out.write(compressed().decode(inode, extent), 0, (int) extent.length());
            return;
        }
        boolean hole = extent.kind() == FileExtent.Kind.HOLE;
        if (hole) {
            Arrays.fill(bytes, (byte) 0);
        } else {
            reader.requireOnDevice(extent.address(), extent.length(), "content of inode", inode.nid());
        }
        for (long done = 0; done < extent.length(); ) {
            int part = (int) Math.min(bytes.length, extent.length() - done);
            if (!hole) {
                flat.read(extent.address() + done, buffer.asSlice(0, part));
                MemorySegment.copy(buffer, ValueLayout.JAVA_BYTE, 0, bytes, 0, part);
            }
            out.write(bytes, 0, part);
            done += part;
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import java.io.IOException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * From a byte of the device to the files that it belongs to: the reverse of what the metadata says.
 *
 * <p>Built in one pass over all inodes; 28 bytes for each extent and one small object for each name. What is damaged
 * is left out. Immutable and thread-safe once it is built.
 */
public final class ReverseIndex {
    private final long[] starts; // ascending
    private final long[] ends;
    private final long[] maxEnds; // of this and all before
    private final long[] fileOffsets;
    private final int[] files;
    private final Part[] parts;
    private final List<File> byNumber;
    private final int skipped;

    /** What of a file a byte is. */
    public enum Part {
        /** Of its inode: header, xattrs, chunk indexes. */
        INODE,
        /** Of its content. */
        CONTENT,
        /** Of its content, compressed. */
        ENCODED_CONTENT
    }

    /**
     * A file that a byte belongs to.
     *
     * @param paths all of its names, hard links included
     * @param fileOffset which byte of the content; the extent's first if it is compressed; 0 for an inode
     */
    public record Hit(List<String> paths, long nid, Part part, long fileOffset) {}

    private record Name(@Nullable Name parent, String name) {
        String path() {
            Deque<String> names = new ArrayDeque<>();
            for (Name at = this; at != null && !at.name.isEmpty(); at = at.parent) {
                names.push(at.name);
            }
            return "/" + String.join("/", names);
        }
    }

    private record File(long nid, List<Name> names) {}

    private record Range(long start, long end, long fileOffset, int file, Part part) {}

    private ReverseIndex(List<File> files, List<Range> ranges, int skipped) {
        this.skipped = skipped;
        ranges.sort(Comparator.comparingLong(Range::start));
        byNumber = files;
        starts = ranges.stream().mapToLong(Range::start).toArray();
        ends = ranges.stream().mapToLong(Range::end).toArray();
        fileOffsets = ranges.stream().mapToLong(Range::fileOffset).toArray();
        this.files = ranges.stream().mapToInt(Range::file).toArray();
        parts = new Part[starts.length];
        maxEnds = new long[starts.length];
        for (int i = 0; i < starts.length; i++) {
            parts[i] = ranges.get(i).part();
            maxEnds[i] = Math.max(ends[i], i == 0 ? 0 : maxEnds[i - 1]);
        }
    }

    /** Reads all of {@code fs}. */
    public static ReverseIndex build(ErofsFileSystem fs) throws IOException {
        return new Builder(fs).build();
    }

    /** How many ranges of the device it knows. */
    public int size() {
        return starts.length;
    }

    /** How many directories and inodes are damaged and therefore, in part or whole, not in it. */
    public int skipped() {
        return skipped;
    }

    /**
     * The files to which bytes of the device belong; several if they share data, or if a sector holds several inodes.
     *
     * @param from first byte
     * @param to the byte behind the last
     */
    public List<Hit> in(long from, long to) {
        int found = Arrays.binarySearch(starts, to);
        int last = found >= 0 ? found : -found - 1;
        while (last > 0 && (last == starts.length || starts[last] >= to)) {
            last--;
        }
        List<Hit> hits = new ArrayList<>();
        for (int i = last; i >= 0 && i < starts.length && maxEnds[i] > from; i--) {
            if (ends[i] > from && starts[i] < to) {
                File file = byNumber.get(files[i]);
                long skip = parts[i] == Part.CONTENT ? Math.max(0, from - starts[i]) : 0;
                hits.add(new Hit(
                        file.names.stream().map(Name::path).toList(), file.nid, parts[i], fileOffsets[i] + skip));
            }
        }
        return hits.reversed();
    }

    private static final class Builder {
        private final ErofsFileSystem fs;
        private final List<File> files = new ArrayList<>();
        private final Map<Long, Integer> numbers = new HashMap<>();
        private final List<Range> ranges = new ArrayList<>();
        private final Deque<Pending> directories = new ArrayDeque<>();

        private int skipped;

        private record Pending(Name name, Inode inode) {}

        Builder(ErofsFileSystem fs) {
            this.fs = fs;
        }

        ReverseIndex build() throws IOException {
            add(new Name(null, ""), fs.root());
            while (!directories.isEmpty()) {
                Pending directory = directories.pop();
                try {
                    DirectoryBlocks.visit(fs, directory.inode, entry -> {
                        if (!entry.isDot()) {
                            add(new Name(directory.name, entry.name()), entry.nid());
                        }
                        return true;
                    });
                } catch (IOException damaged) {
                    skipped++; // verify says what it is; here the rest still helps
                }
            }
            return new ReverseIndex(files, ranges, skipped);
        }

        private void add(Name name, long nid) {
            Integer known = numbers.get(nid);
            if (known != null) {
                files.get(known).names.add(name);
                return;
            }
            try {
                add(name, fs.inode(nid));
            } catch (IOException damaged) {
                skipped++;
            }
        }

        private void add(Name name, Inode inode) throws IOException {
            int number = files.size();
            numbers.put(inode.nid(), number);
            List<Name> names = new ArrayList<>(1);
            names.add(name);
            files.add(new File(inode.nid(), names));
            if (inode.isDirectory()) {
                directories.push(new Pending(name, inode));
            }
            ranges.add(new Range(inode.offset(), inode.bodyOffset() + indexBytes(inode), 0, number, Part.INODE));
            fs.extents(inode, extent -> {
                if (extent.stored() > 0) {
                    boolean encoded = extent.kind() == FileExtent.Kind.ENCODED;
                    ranges.add(new Range(
                            extent.address(),
                            extent.address() + extent.stored(),
                            extent.fileOffset(),
                            number,
                            encoded ? Part.ENCODED_CONTENT : Part.CONTENT));
                }
            });
        }

        private long indexBytes(Inode inode) throws IOException {
            if (inode.layout() != Inode.CHUNKED || !inode.hasData()) {
                return 0;
            }
            long array = DataMap.chunkArray(inode) - inode.bodyOffset();
            return array + DataMap.blocks(inode.size(), DataMap.chunkBits(fs, inode)) * DataMap.chunkUnit(inode);
        }
    }
}

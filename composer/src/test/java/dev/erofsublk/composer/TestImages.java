// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.stream.Stream;

/**
 * Real images made by erofs-utils, each with its plain concatenation: see {@code scripts/lib/test-images}.
 *
 * <p>They are in the directory that {@code EROFS_UBLK_TEST_IMAGES} names; without it they are made once under
 * {@code target/} of the project.
 */
public final class TestImages {
    private static final Path DIRECTORY = locate();

    /** How a user names one of them. */
    public enum Kind {
        /** Tar index over one raw tar, blocks of 512 bytes; no tags. */
        A("a.erofs", List.of("l1.tar"), "l1"),
        /** Three native layers merged, found by the tags that are their UUIDs. */
        B("b.erofs", List.of("l1.erofs", "l2.erofs", "l3.erofs"), "all"),
        /** Three tar indexes merged; only the first blocks of each tar are meant. */
        B2("b2.erofs", List.of("l1.tar", "l2.tar", "l3.tar"), "all"),
        /** Chunk-based with one blob. */
        C("c.erofs", List.of("c.blob"), "all"),
        /** As {@link #C}, with 48-bit addresses. */
        C48("c48.erofs", List.of("c48.blob"), "all"),
        /** Made by erofs-utils 1.5: the slot has neither address nor length. */
        OLD("old.erofs", List.of("old.blob"), "all"),
        /** One device, compressed. */
        PLAIN("plain.erofs", List.of(), "all");

        private final String meta;
        private final List<String> blobs;
        private final String tree;

        Kind(String meta, List<String> blobs, String tree) {
            this.meta = meta;
            this.blobs = blobs;
            this.tree = tree;
        }

        public String id() {
            return meta.substring(0, meta.indexOf('.'));
        }

        public Path directory() {
            return DIRECTORY.resolve(id());
        }

        public Path meta() {
            return directory().resolve(meta);
        }

        public List<Path> blobs() {
            return blobs.stream().map(blob -> directory().resolve(blob)).toList();
        }

        /** The plain concatenation; {@link #OLD} has none, as its metadata is served repaired. */
        public Path raw() {
            assertThat(this).isNotEqualTo(OLD);
            return DIRECTORY.resolve("raw/" + id() + ".raw");
        }

        /** The source tree that a mount must equal. */
        public Path tree() {
            return DIRECTORY.resolve("tree/" + tree);
        }

        /** The options that name the image on the command line. */
        public List<String> sourceOptions() {
            if (this == B) {
                return List.of("--blobs", directory().toString());
            }
            Stream<String> options = Stream.of("--meta", meta().toString());
            return Stream.concat(options, blobs().stream().flatMap(blob -> Stream.of("--blob", blob.toString())))
                    .toList();
        }
    }

    private TestImages() {}

    private static Path locate() {
        String given = System.getenv("EROFS_UBLK_TEST_IMAGES");
        if (given != null) {
            return Path.of(given);
        }
        Path script = Path.of("scripts/lib/test-images").toAbsolutePath();
        while (!Files.exists(script)) {
            Path root = script.getParent().getParent().getParent();
            script = root.getParent().resolve("scripts/lib/test-images");
        }
        Path images = script.resolve("../../../target/test-images").normalize();
        try {
            Process process = new ProcessBuilder(script.toString(), images.toString())
                    .inheritIO()
                    .start();
            assertThat(process.waitFor()).as(script.toString()).isZero();
        } catch (IOException | InterruptedException e) {
            throw new IllegalStateException("cannot make the test images", e);
        }
        return images;
    }

    /** Writes the whole device through its sources. */
    public static void writeAll(FlatImage flat, Path out) throws IOException {
        try (FileChannel channel = FileChannel.open(
                        out,
                        StandardOpenOption.CREATE,
                        StandardOpenOption.TRUNCATE_EXISTING,
                        StandardOpenOption.WRITE);
                Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(1 << 20);
            for (int i = 0; i < flat.extentCount(); i++) {
                Extent extent = flat.extent(i);
                for (long done = 0; done < extent.length(); ) {
                    MemorySegment part = buffer.asSlice(0, Math.min(buffer.byteSize(), extent.length() - done));
                    extent.source().read(extent.sourceOffset() + done, part);
                    channel.write(part.asByteBuffer(), extent.start() + done);
                    done += part.byteSize();
                }
            }
        }
    }

    /**
     * Writes bytes of an address space into a file without touching them: the kernel copies them from their addresses,
     * as it does for a commit.
     */
    public static void writeMapped(AddressSpace space, long offset, long length, int fd, long at) throws IOException {
        for (long done = 0; done < length; ) {
            int run = space.run(offset + done);
            long bytes = Math.min(length - done, space.runEnd(run) - offset - done);
            Linux.write(fd, Linux.memory(space.address(run, offset + done), bytes), at + done);
            done += bytes;
        }
    }
}

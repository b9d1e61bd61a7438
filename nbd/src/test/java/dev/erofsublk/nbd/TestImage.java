// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;

/** A device of random bytes and holes, mapped, with its content in an array to compare with. */
final class TestImage implements AutoCloseable {
    private final FlatImage image;
    final AddressSpace space;
    final byte[] content;
    final Path file;

    private TestImage(FlatImage image, Path file) throws IOException {
        this.image = image;
        this.file = file;
        space = AddressSpace.map(image);
        content = new byte[(int) image.size()];
        try (Arena arena = Arena.ofConfined()) {
            for (int i = 0; i < image.extentCount(); i++) {
                Extent extent = image.extent(i);
                var bytes = arena.allocate(extent.length());
                extent.source().read(extent.sourceOffset(), bytes);
                System.arraycopy(bytes.toArray(JAVA_BYTE), 0, content, (int) extent.start(), (int) extent.length());
            }
        }
    }

    /** One file of {@code bytes}, placed by the MMU. */
    static TestImage file(Path directory, int bytes) throws IOException {
        Path path = random(directory.resolve("file.img"), bytes, 1);
        Blob blob = Blob.open(path);
        return new TestImage(FlatImage.builder(4096).append(bytes, blob, 0).build(), path);
    }

    /**
     * Metadata in memory, two files one behind the other with holes between, and pieces that no MMU can place.
     *
     * <pre>
     *   0     4K         132K      232K           1M+232K     1M+264K  ...
     *   bytes | file 1   | hole    | file 2       | hole      | 40 pieces of 512 bytes, each with a hole behind it
     * </pre>
     */
    static TestImage layers(Path directory) throws IOException {
        byte[] meta = new byte[4096];
        new Random(2).nextBytes(meta);
        Path file = random(directory.resolve("layer1.img"), 1 << 20, 3);
        Blob first = Blob.open(file);
        Blob second = Blob.open(random(directory.resolve("layer2.img"), 2 << 20, 4));
        FlatImage.Builder b = FlatImage.builder(512)
                .append(4096, new Bytes("meta", meta), 0)
                .append(128 << 10, first, 8192)
                .zeros(100 << 10)
                .append(1 << 20, second, 4096)
                .zeros(32 << 10);
        for (int i = 0; i < 40; i++) {
            b.append(512, first, 200_192 + i * 1024L).zeros(1536);
        }
        return new TestImage(b.build(), file);
    }

    private static Path random(Path path, int bytes, long seed) throws IOException {
        byte[] content = new byte[bytes];
        new Random(seed).nextBytes(content);
        return Files.write(path, content);
    }

    FlatImage image() {
        return image;
    }

    Export export(String name) {
        return new Export(name, "about " + name, space);
    }

    Exports exports() {
        return new Exports(List.of(export("disk"), export("other")));
    }

    @Override
    public void close() {
        space.close();
        image.close();
    }
}

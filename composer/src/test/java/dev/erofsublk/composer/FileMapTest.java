// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class FileMapTest {
    @TempDir
    private Path dir;

    private static byte[] random(int bytes) {
        byte[] content = new byte[bytes];
        new Random(bytes).nextBytes(content);
        return content;
    }

    /** Reads the device through the files alone. */
    private static byte[] read(FileMap map, long size) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment device = arena.allocate(size, 4096);
            int[] descriptors = map.descriptors();
            for (long at = 0; at < size; ) {
                int run = map.run(at);
                MemorySegment target = device.asSlice(at, map.end(run) - at);
                assertThat(Linux.read(descriptors[map.file(run)], target, map.fileOffset(run, at)))
                        .isEqualTo(target.byteSize());
                at = map.end(run);
            }
            return device.toArray(JAVA_BYTE);
        }
    }

    private static byte[] read(FlatImage image) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment device = arena.allocate(image.size(), 4096);
            image.read(0, device);
            return device.toArray(JAVA_BYTE);
        }
    }

    @Test
    void everyByteIsInAFile() throws Exception {
        Blob first = Blob.open(Files.write(dir.resolve("first"), random(64 << 10)));
        Blob second = Blob.open(Files.write(dir.resolve("second"), random(33 << 10)));
        Bytes bytes = new Bytes("repaired", random((2 << 20) + 512));
        try (FlatImage image = FlatImage.builder(512)
                        .append(512, bytes, 0)
                        .append(63 << 10, first, 1 << 10)
                        .zeros(1 << 20)
                        .append(33 << 10, second, 0)
                        .append(bytes.size(), bytes, 0)
                        .append(512, first, 7)
                        .zeros(512)
                        .build();
                FileMap map = FileMap.open(image, 512)) {
            assertThat(read(map, image.size())).isEqualTo(read(image));
            assertThat(map.descriptors()).hasSize(3);
        }
    }

    @Test
    void aFileReplacedUnderItsNameIsNotTheOneThatIsServed() throws Exception {
        Path path = Files.write(dir.resolve("blob"), random(4096));
        try (FlatImage image =
                FlatImage.builder(4096).append(4096, Blob.open(path), 0).build()) {
            Files.delete(path);
            Files.write(path, new byte[4096]);
            try (FileMap map = FileMap.open(image, 4096)) {
                assertThat(read(map, 4096)).isEqualTo(random(4096));
            }
        }
    }

    @Test
    void holesTakeNoMemory() throws Exception {
        long size = 1L << 40;
        try (FlatImage image = FlatImage.builder(4096).zeros(size).build();
                FileMap map = FileMap.open(image, 4096);
                Arena arena = Arena.ofConfined()) {
            MemorySegment some = arena.allocate(1 << 20);
            some.fill((byte) 1);
            assertThat(Linux.read(map.descriptors()[0], some, size - some.byteSize()))
                    .isEqualTo(some.byteSize());
            assertThat(some.mismatch(arena.allocate(some.byteSize()))).isEqualTo(-1);
            assertThat(Linux.seekData(map.descriptors()[0], 0)).isEqualTo(-1);
        }
    }

    @Test
    void neighboursInTheMemoryFileAreOneRun() throws Exception {
        Bytes bytes = new Bytes("bytes", random(1024));
        try (FlatImage image = FlatImage.builder(512)
                        .zeros(512)
                        .append(1024, bytes, 0)
                        .zeros(512)
                        .build();
                FileMap map = FileMap.open(image, 512)) {
            assertThat(map.end(0)).isEqualTo(2048);
            assertThat(Arrays.copyOfRange(read(map, 2048), 512, 1536)).isEqualTo(random(1024));
        }
    }
}

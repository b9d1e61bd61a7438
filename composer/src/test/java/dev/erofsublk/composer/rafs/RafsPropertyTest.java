// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.cache.CacheDirectory;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.RepeatedTest;
import org.junit.jupiter.api.io.TempDir;

/** Images of random options and files; {@code -Drafs.seed=N} repeats one. */
final class RafsPropertyTest {
    @TempDir
    Path directory;

    @RepeatedTest(24)
    void whatABuilderWritesTheReaderReadsInAnyOrder() throws Exception {
        long seed = Long.getLong("rafs.seed", System.nanoTime());
        System.out.println("seed " + seed);
        Random random = new Random(seed);
        RafsBuilder.Built built = builder(random).build(Files.createDirectories(directory.resolve("images")));
        try (RafsImage image = RafsImage.open(
                built.bootstrap,
                BlobFinder.in(directory.resolve("images")),
                CacheDirectory.at(directory.resolve("cache")))) {
            long end = 0;
            for (int i = 0; i < image.flat().extentCount(); i++) {
                Extent extent = image.flat().extent(i);
                assertThat(extent.start()).as("seed %d", seed).isEqualTo(end);
                assertThat(extent.length()).as("seed %d", seed).isPositive();
                end = extent.end();
            }
            assertThat(end).as("seed %d", seed).isEqualTo(image.flat().size());
            Extent blob = image.flat().extent(image.flat().extentCount() - 1);
            for (int i = 0; i < 40; i++) {
                int at = random.nextInt(built.decoded.length);
                int length = 1 + random.nextInt(Math.min(100_000, built.decoded.length - at));
                try (Arena arena = Arena.ofConfined()) {
                    MemorySegment read = arena.allocate(length);
                    blob.source().read(blob.sourceOffset() + at, read);
                    assertThat(Arrays.equals(
                                    read.toArray(ValueLayout.JAVA_BYTE),
                                    Arrays.copyOfRange(built.decoded, at, at + length)))
                            .as("seed %d, [%d, +%d)", seed, at, length)
                            .isTrue();
                }
            }
        }
    }

    private static RafsBuilder builder(Random random) {
        RafsBuilder builder = new RafsBuilder();
        builder.v2 = random.nextBoolean();
        builder.compressor = random.nextInt(4);
        builder.ciCompressor = random.nextInt(4);
        builder.sha256 = random.nextBoolean();
        builder.tarHeaders = random.nextBoolean();
        builder.toc = random.nextBoolean();
        builder.digestsInBlob = builder.toc && random.nextBoolean();
        builder.digestsInBootstrap = random.nextBoolean();
        builder.crc = random.nextBoolean();
        builder.encrypted = builder.v2 && random.nextBoolean();
        builder.batchSize = builder.v2 && random.nextBoolean() ? 4096 << random.nextInt(5) : 0;
        builder.checksum = random.nextBoolean();
        builder.noAddress = random.nextInt(4) == 0;
        builder.noBlocks = builder.noAddress && random.nextBoolean();
        builder.chunkSize = 4096 << random.nextInt(9);
        builder.embedded = builder.toc && random.nextBoolean();
        builder.embeddedCompressor = new int[] {RafsBuilder.NONE, RafsBuilder.LZ4, RafsBuilder.ZSTD}[random.nextInt(3)];
        for (int i = 1 + random.nextInt(30); i > 0; i--) {
            int length = random.nextInt(3) == 0 ? random.nextInt(400_000) : 1 + random.nextInt(6000);
            builder.file(
                    "file" + i,
                    random.nextInt(3) == 0 ? RafsImageTest.noise(random, length) : RafsImageTest.text(random, length));
        }
        builder.file("one", new byte[] {1});
        return builder;
    }
}

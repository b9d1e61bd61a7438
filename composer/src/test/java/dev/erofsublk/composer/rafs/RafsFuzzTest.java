// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.cache.CacheDirectory;
import dev.erofsublk.composer.cache.DecodeException;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Mutations of good images: whatever a file says, it is composed or refused, in a bounded time, with the documented
 * exceptions and no other. {@code -Drafs.fuzz.rounds=N} for more of them, {@code -Drafs.fuzz.seed=N} to repeat one.
 */
final class RafsFuzzTest {
    private static final Duration BOUND = Duration.ofSeconds(5); // for one image of half a MiB, on a busy machine

    @TempDir
    Path directory;

    @ParameterizedTest
    @EnumSource(
            value = RafsImageTest.Kind.class,
            names = {
                "V1_GZIP",
                "TOC_AND_DIGESTS",
                "PACKED_TABLE_LZ4",
                "BATCH_LZ4_ENCRYPTED",
                "ENCRYPTED_ZSTD_TOC",
                "ZRAN",
                "ZRAN_TOC_EMBEDDED",
                "TARFS",
                "EMBEDDED_LZ4",
                "EMBEDDED_PLAIN_WITHOUT_TOC",
                "WITHOUT_ADDRESS_AND_LENGTH",
                "OLD_HEADER_PACKED"
            })
    void aMutatedImageIsComposedOrRefusedAndNothingElse(RafsImageTest.Kind kind) throws Exception {
        int rounds = Integer.getInteger("rafs.fuzz.rounds", 150);
        long seed = Long.getLong("rafs.fuzz.seed", System.nanoTime());
        System.out.println("seed " + seed + " (" + kind + ")");
        RafsBuilder.Built built = kind.builder(seed).build(directory);
        byte[] bootstrap = Files.readAllBytes(built.bootstrap);
        byte[] blob = Files.readAllBytes(built.blob);
        Random random = new Random(seed);
        int refused = 0;
        int damaged = 0;
        for (int round = 0; round < rounds; round++) {
            boolean inBlob = random.nextBoolean() || built.bootstrap.equals(built.blob);
            Files.write(built.bootstrap, inBlob ? bootstrap : mutateHead(bootstrap, random));
            Files.write(built.blob, inBlob ? mutate(blob, built.ciOffset, random) : blob);
            long start = System.nanoTime();
            try (RafsImage image = RafsImage.open(
                    built.bootstrap,
                    BlobFinder.in(directory),
                    CacheDirectory.at(directory.resolve("cache" + round % 4)))) {
                List<IOException> bad = new ArrayList<>();
                image.verify(n -> {}, problem -> bad.add(problem) && bad.size() < 10);
                if (!bad.isEmpty()) {
                    throw bad.getFirst();
                }
                image.describe(new dev.erofsublk.composer.Description());
            } catch (ImageException e) {
                refused++;
                assertThat(e.getMessage()).doesNotContain("\n");
            } catch (DecodeException | LinuxException e) {
                damaged++;
            } catch (IOException e) {
                throw new AssertionError("seed " + seed + ", round " + round, e);
            } catch (RuntimeException | Error e) {
                throw new AssertionError("seed " + seed + ", round " + round, e);
            }
            assertThat(Duration.ofNanos(System.nanoTime() - start))
                    .as("seed %d, round %d", seed, round)
                    .isLessThan(BOUND);
        }
        System.out.printf("  %d rounds: %d refused, %d damaged%n", rounds, refused, damaged);
        assertThat(refused + damaged)
                .as("mutations that were noticed, seed %d", seed)
                .isPositive();
    }

    /** Changes a few bytes, most of them where tables are; sometimes cuts the end off. */
    private static byte[] mutate(byte[] file, long tables, Random random) {
        byte[] mutated = file.clone();
        if (random.nextInt(8) == 0) {
            return Arrays.copyOf(mutated, random.nextInt(mutated.length));
        }
        for (int i = 1 + random.nextInt(4); i > 0; i--) {
            int from = random.nextInt(4) == 0 || tables >= mutated.length ? 0 : (int) tables;
            change(mutated, from + random.nextInt(mutated.length - from), random);
        }
        return mutated;
    }

    /** Changes fields of superblock, slot, blob table and chunk table. */
    private static byte[] mutateHead(byte[] file, Random random) {
        byte[] mutated = file.clone();
        if (random.nextInt(16) == 0) {
            return Arrays.copyOf(mutated, random.nextInt(mutated.length));
        }
        int[] starts = {1024, 1152, 1408, 4096, 4096 + 64, mutated.length - 4096};
        for (int i = 1 + random.nextInt(3); i > 0; i--) {
            int at = starts[random.nextInt(starts.length)] + random.nextInt(160);
            change(mutated, Math.min(Math.max(at, 0), mutated.length - 1), random);
        }
        return mutated;
    }

    private static void change(byte[] bytes, int at, Random random) {
        switch (random.nextInt(4)) {
            case 0 -> bytes[at] ^= (byte) (1 << random.nextInt(8));
            case 1 -> bytes[at] = (byte) 0xff;
            case 2 -> bytes[at] = 0;
            default -> {
                for (int i = at; i < Math.min(bytes.length, at + 8); i++) {
                    bytes[i] = (byte) random.nextInt();
                }
            }
        }
    }
}

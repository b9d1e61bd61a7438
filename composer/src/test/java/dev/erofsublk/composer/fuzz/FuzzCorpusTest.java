// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.fuzz;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.fuzz.FuzzTarget.Kind;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Every input that fuzzing has found worth keeping (the lines in {@code src/test/resources/fuzz}), and new
 * ones made from them for a fixed time: {@code -Dfuzz.seconds=N} for more than 2 s for each format,
 * {@code -Dfuzz.seed=N} to repeat a run.
 */
class FuzzCorpusTest {
    private static final int LONGEST = 64;

    @TempDir
    private Path directory;

    @ParameterizedTest
    @EnumSource
    void anImageIsReadOrRefusedWhateverIsDoneToItsBytes(Kind kind) throws Exception {
        long seed = Long.getLong("fuzz.seed", System.nanoTime());
        Random random = new Random(seed);
        List<byte[]> inputs = corpus(kind);
        assertThat(inputs).as("the corpus of %s", kind).isNotEmpty();
        int tried = 0;
        try (FuzzTarget target = FuzzTarget.of(kind, directory)) {
            target.run(new byte[0]);
            assertThat(target.read()).as("the sound image is read").isEqualTo(1);
            for (byte[] input : inputs) {
                run(target, input, "of the corpus");
            }
            long end = System.nanoTime() + Long.getLong("fuzz.seconds", 2) * 1_000_000_000L;
            for (; System.nanoTime() < end; tried++) {
                run(target, mutate(inputs.get(random.nextInt(inputs.size())), random), "seed " + seed);
            }
            System.out.printf(
                    "FuzzCorpusTest %s seed %d: %d inputs kept, %d new ones tried, %d read%n",
                    kind, seed, inputs.size(), tried, target.read());
        }
        assertThat(tried).isPositive();
    }

    private static void run(FuzzTarget target, byte[] input, String origin) {
        try {
            target.run(input);
        } catch (Throwable e) {
            throw new AssertionError("input %s (%s)".formatted(HexFormat.of().formatHex(input), origin), e);
        }
    }

    private static byte[] mutate(byte[] input, Random random) {
        byte[] output = Arrays.copyOf(input, Math.min(LONGEST, Math.max(4, input.length + 3 * random.nextInt(3))));
        for (int i = random.nextInt(4); i >= 0; i--) {
            output[random.nextInt(output.length)] = (byte) random.nextInt();
        }
        return output;
    }

    private static List<byte[]> corpus(Kind kind) throws IOException {
        Path file = Path.of("src/test/resources/fuzz").resolve(kind + ".hex");
        return Files.readAllLines(file).stream().map(HexFormat.of()::parseHex).toList();
    }
}

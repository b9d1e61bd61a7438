// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.cache;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The record of what is decoded: after a kill, after a crash of the machine, and in files that are not what they were. */
@Timeout(120)
final class CacheFileTest {
    private static final byte[] IDENTITY = new byte[32];
    private static final long BOOT = 0x1234_5678_9abcL;
    private static final long NEXT_BOOT = 0x4321_8765_cba9L;

    @TempDir
    Path directory;

    private static List<Integer> recorded(CacheFile file) throws IOException {
        List<Integer> recorded = new ArrayList<>();
        file.forEachRecorded(recorded::add);
        return recorded;
    }

    private static void write(CacheFile file, int piece) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocate(4096);
            bytes.fill((byte) piece);
            file.write(piece, bytes);
        }
    }

    @Test
    void whatWasWrittenCountsAsLongAsTheMachineRuns() throws Exception {
        Pieces pieces = Pieces.uniform(10 * 4096, 4096);
        Path path = directory.resolve("c");
        CacheFile file = CacheFile.open(path, IDENTITY, pieces, BOOT);
        write(file, 3);
        write(file, 7);
        file.close(); // without sync, as after a kill

        CacheFile sameBoot = CacheFile.open(path, IDENTITY, pieces, BOOT);
        assertThat(recorded(sameBoot)).containsExactly(3, 7);
        assertThat(sameBoot.recorded(3)).isTrue();
        assertThat(sameBoot.recorded(4)).isFalse();
        sameBoot.close();

        CacheFile nextBoot = CacheFile.open(path, IDENTITY, pieces, NEXT_BOOT);
        assertThat(recorded(nextBoot)).isEmpty();
        nextBoot.close();
    }

    @Test
    void whatWasMadeDurableCountsAfterACrashOfTheMachineToo() throws Exception {
        Pieces pieces = Pieces.uniform(10 * 4096, 4096);
        Path path = directory.resolve("c");
        CacheFile file = CacheFile.open(path, IDENTITY, pieces, BOOT);
        write(file, 1);
        write(file, 2);
        file.sync();
        file.recordDurable(1);
        file.recordDurable(2);
        write(file, 5);
        file.close();
        CacheFile nextBoot = CacheFile.open(path, IDENTITY, pieces, NEXT_BOOT);
        assertThat(recorded(nextBoot)).containsExactly(1, 2);
        write(nextBoot, 5);
        assertThat(recorded(nextBoot)).containsExactly(1, 2, 5);
        nextBoot.forget(2);
        assertThat(recorded(nextBoot)).containsExactly(1, 5);
        nextBoot.close();
    }

    @Test
    void aFileOfAnotherContentIsReplacedAndNotBelieved() throws Exception {
        Pieces pieces = Pieces.uniform(10 * 4096, 4096);
        Path path = directory.resolve("c");
        CacheFile file = CacheFile.open(path, IDENTITY, pieces, BOOT);
        write(file, 3);
        byte[] other = IDENTITY.clone();
        other[31] = 1;
        CacheFile replaced = CacheFile.open(path, other, pieces, BOOT);
        assertThat(recorded(replaced)).isEmpty();
        assertThat(recorded(file)).as("who has the old one keeps it").containsExactly(3);
        file.close();
        replaced.close();
    }

    @Test
    void aFileCutShortOrGrownIsReplaced() throws Exception {
        Pieces pieces = Pieces.uniform(10 * 4096, 4096);
        Path path = directory.resolve("c");
        for (int change : new int[] {-1, 1, -4096}) {
            CacheFile file = CacheFile.open(path, IDENTITY, pieces, BOOT);
            write(file, 3);
            try (RandomAccessFile raw = new RandomAccessFile(path.toFile(), "rw")) {
                raw.setLength(raw.length() + change);
            }
            file.close();
            CacheFile replaced = CacheFile.open(path, IDENTITY, pieces, BOOT);
            assertThat(recorded(replaced)).isEmpty();
            replaced.close();
        }
        assertThat(directory).as("no leftovers").isDirectoryNotContaining("glob:**.new-*");
    }

    @Test
    void aSymbolicLinkIsNotFollowed() throws Exception {
        Path victim = Files.writeString(directory.resolve("victim"), "precious");
        Path link = Files.createSymbolicLink(directory.resolve("c"), victim);
        assertThatThrownBy(() -> CacheFile.open(link, IDENTITY, Pieces.uniform(4096, 4096), BOOT))
                .isInstanceOf(LinuxException.class);
        assertThat(victim).hasContent("precious");
    }

    @Test
    void moreBytesThanThePieceHasAreNotWrittenOverItsNeighbour() throws Exception {
        CacheFile file = CacheFile.open(directory.resolve("c"), IDENTITY, PatternDecoder.pieces(4096, 100), BOOT);
        try (Arena arena = Arena.ofConfined()) {
            assertThatThrownBy(() -> file.write(1, arena.allocate(101))).isInstanceOf(IllegalArgumentException.class);
        }
        file.close();
    }

    @Test
    void aMillionPiecesAreOpenedInASecond() throws Exception {
        Pieces pieces = Pieces.uniform(1_000_000L * 4096, 4096);
        CacheFile.open(directory.resolve("c"), IDENTITY, pieces, BOOT).close();
        long start = System.nanoTime();
        CacheFile file = CacheFile.open(directory.resolve("c"), IDENTITY, pieces, BOOT);
        assertThat(recorded(file)).isEmpty();
        assertThat((System.nanoTime() - start) / 1_000_000).isLessThan(1000);
        file.close();
    }

    /**
     * A process that decodes as fast as it can is killed at a random moment, again and again; whatever the record then
     * says is there, is there and right.
     */
    @Test
    void aKilledProcessLeavesNoPieceRecordedThatIsNotThere() throws Exception {
        long seed = System.nanoTime();
        System.out.println("seed " + seed);
        Random random = new Random(seed);
        int before = 0;
        for (int round = 0; round < 6; round++) {
            Process victim = new ProcessBuilder(
                            Path.of(System.getProperty("java.home"), "bin", "java")
                                    .toString(),
                            "-XX:+UseSerialGC",
                            "-XX:TieredStopAtLevel=1",
                            "--enable-native-access=ALL-UNNAMED",
                            "-cp",
                            System.getProperty("java.class.path"),
                            KilledProcess.class.getName(),
                            directory.toString(),
                            Long.toString(random.nextLong()))
                    .redirectErrorStream(true)
                    .start();
            assertThat(victim.getInputStream().read()).as("its first word").isEqualTo('r');
            Thread.sleep(random.nextInt(40));
            victim.destroyForcibly().waitFor();
            try (CachedSource source = KilledProcess.open(directory)) {
                int present = source.presentCount();
                assertThat(present).as("nothing is lost, seed %d", seed).isGreaterThanOrEqualTo(before);
                before = present;
                checkPresent(source, seed);
            }
        }
        assertThat(before).as("pieces decoded in all").isPositive();
    }

    private static void checkPresent(CachedSource source, long seed) throws IOException {
        Pieces pieces = source.pieces();
        try (Arena arena = Arena.ofConfined()) {
            for (int i = 0; i < pieces.count(); i++) {
                if (source.present(pieces.start(i), pieces.length(i))) {
                    MemorySegment bytes = arena.allocate(pieces.length(i));
                    source.cache().read(pieces.start(i), bytes);
                    assertThat(PatternDecoder.matches(bytes, pieces.start(i)))
                            .as("piece %d, seed %d", i, seed)
                            .isTrue();
                }
            }
        }
    }

    /** The process to be killed. */
    static final class KilledProcess {
        private static final int[] LENGTHS = new int[2000];

        static {
            Arrays.setAll(LENGTHS, i -> 4096 * (1 + i % 7));
        }

        private KilledProcess() {}

        static CachedSource open(Path directory) throws IOException {
            Pieces pieces = PatternDecoder.pieces(LENGTHS);
            return CacheDirectory.at(directory).open("killed", new byte[] {9}, pieces, new PatternDecoder(pieces));
        }

        public static void main(String[] args) throws IOException {
            Random random = new Random(Long.parseLong(args[1]));
            CachedSource source = open(Path.of(args[0]));
            System.out.println("ready");
            while (true) {
                source.ensure(random.nextLong(source.size()), 1);
                if (random.nextInt(50) == 0) {
                    source.sync();
                }
            }
        }
    }
}

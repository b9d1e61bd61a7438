// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static dev.erofsublk.nbd.Client.cat;
import static dev.erofsublk.nbd.Client.u32;
import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.Sockets;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * Sessions that make sense, changed at random, over the descriptor pair of {@code --stdio}.
 *
 * <p>{@code -Dnbd.fuzz.seconds=N} makes it longer, {@code -Dnbd.fuzz.seed=N} repeats a run, {@code -Dnbd.fuzz.corpus=DIR}
 * adds the files of a directory to the corpus.
 */
class FuzzTest {
    private static final int STUCK_SECONDS = 20;

    @TempDir
    Path directory;

    @Test
    void anyInputIsAnsweredOrRefusedAndTheServerIsThroughWithIt() throws Exception {
        long seed = Long.getLong("nbd.fuzz.seed", System.nanoTime());
        long end = System.nanoTime()
                + Duration.ofSeconds(Long.getLong("nbd.fuzz.seconds", 5)).toNanos();
        System.out.println("seed " + seed);
        List<String> log = Collections.synchronizedList(new ArrayList<>());
        int sessions = 0;
        long answered = 0;
        try (TestImage image = TestImage.layers(directory)) {
            Exports exports = image.exports();
            Random random = new Random(seed);
            List<byte[]> corpus = corpus();
            for (byte[] valid : corpus) { // unchanged, each gets somewhere
                assertThat(session(exports, valid, log)).isGreaterThan(18);
            }
            assertThat(log).isEmpty();
            while (System.nanoTime() - end < 0) {
                byte[] input = mutate(random, corpus);
                answered += session(exports, input, log);
                sessions++;
                assertThat(log).as("seed " + seed + ", session " + sessions).noneMatch(line -> line.contains("defect"));
                log.clear();
            }
        }
        System.out.println(sessions + " sessions, " + answered + " bytes of answers");
        assertThat(sessions).isGreaterThan(20);
        assertThat(answered).isGreaterThan(sessions * 18L);
    }

    /** Sends {@code input}, closes, and counts the bytes of the answers; fails if the server does not end then. */
    private static long session(Exports exports, byte[] input, List<String> log) throws Exception {
        int[] pair = Sockets.pair();
        Thread server = Thread.ofPlatform()
                .start(() -> NbdServer.serve(pair[0], pair[0], exports, Limits.DEFAULT, null, log::add, () -> {}));
        Thread sender = Thread.ofPlatform().start(() -> send(pair[1], input));
        long answered = 0;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(1 << 20);
            for (int n; (n = Sockets.read(pair[1], buffer.address(), 1 << 20)) > 0; ) {
                answered += n;
            }
        }
        assertThat(server.join(Duration.ofSeconds(STUCK_SECONDS)))
                .as("the server is through")
                .isTrue();
        Sockets.shutdown(pair[1]);
        sender.join();
        Linux.close(pair[1]);
        return answered;
    }

    private static void send(int fd, byte[] input) {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocate(Math.max(1, input.length));
            MemorySegment.copy(MemorySegment.ofArray(input), 0, bytes, 0, input.length);
            for (int done = 0; done < input.length; ) {
                int n = Sockets.send(fd, bytes.asSlice(done, input.length - done));
                if (n < 0) {
                    return; // hung up
                }
                done += n;
            }
            Sockets.shutdownOutput(fd);
        }
    }

    private static byte[] mutate(Random random, List<byte[]> corpus) {
        byte[] input = corpus.get(random.nextInt(corpus.size())).clone();
        int changes = 1 + random.nextInt(6);
        for (int i = 0; i < changes && input.length > 0; i++) {
            int at = random.nextInt(input.length);
            switch (random.nextInt(8)) {
                case 0 -> input[at] ^= (byte) (1 << random.nextInt(8));
                case 1 -> input[at] = (byte) random.nextInt();
                case 2 -> input = cat(slice(input, 0, at), interesting(random), slice(input, at, input.length));
                case 3 ->
                    System.arraycopy(
                            interesting(random),
                            0,
                            input,
                            Math.max(0, at - 4),
                            Math.min(4, input.length - Math.max(0, at - 4)));
                case 4 -> input = slice(input, 0, at);
                case 5 ->
                    input = cat(
                            slice(input, 0, at),
                            slice(input, Math.min(input.length, at + random.nextInt(40)), input.length));
                case 6 -> {
                    byte[] other = corpus.get(random.nextInt(corpus.size()));
                    input = cat(slice(input, 0, at), slice(other, random.nextInt(other.length), other.length));
                }
                default -> input = cat(input, new byte[random.nextInt(70_000)]);
            }
        }
        return input;
    }

    private static byte[] slice(byte[] bytes, int from, int to) {
        return java.util.Arrays.copyOfRange(bytes, from, to);
    }

    private static byte[] interesting(Random random) {
        int[] values = {0, 1, -1, Integer.MIN_VALUE, Integer.MAX_VALUE, 4096, 4097, 0x7fff, 32 << 20, (32 << 20) + 1, 28
        };
        return u32(values[random.nextInt(values.length)]);
    }

    /** The recipes of {@code src/test/corpus}: hexadecimal digits, with comments behind a number sign. */
    private static List<byte[]> corpus() throws IOException {
        List<byte[]> corpus = new ArrayList<>();
        try (var recipes = Files.list(Path.of("src/test/corpus"))) {
            for (Path recipe : recipes.sorted().toList()) {
                String digits = Files.readString(recipe).replaceAll("#.*|\\s", "");
                corpus.add(HexFormat.of().parseHex(digits));
            }
        }
        assertThat(corpus).hasSizeGreaterThan(6);
        String more = System.getProperty("nbd.fuzz.corpus");
        if (more != null) {
            try (var files = Files.list(Path.of(more))) {
                for (Path file : files.sorted().toList()) {
                    corpus.add(Files.readAllBytes(file));
                }
            }
        }
        return corpus;
    }

    @Test
    void descriptorsThatAreNotSocketsServeToo() throws IOException {
        try (TestImage image = TestImage.layers(directory)) {
            byte[] session = corpus().getFirst();
            Path input = Files.write(directory.resolve("in"), session);
            Path output = Files.createFile(directory.resolve("out"));
            List<String> log = new ArrayList<>();
            int in = Linux.open(input.toString(), Linux.O_RDONLY);
            int out = Linux.open(output.toString(), Linux.O_RDWR);
            NbdServer.serve(in, out, image.exports(), Limits.DEFAULT, null, log::add, () -> {});
            assertThat(log).isEmpty();
            assertThat(Files.size(output)).isGreaterThan(1_000_000);
        }
    }
}

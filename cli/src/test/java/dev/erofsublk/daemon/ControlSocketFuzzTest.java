// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Bytes of all kinds at the control socket, in pieces of all sizes, by peers that leave at any moment. For as many seconds
 * as {@code EROFS_UBLK_FUZZ_SECONDS} says, 10 if not set; {@code EROFS_UBLK_FUZZ_SEED} repeats a run.
 */
@Timeout(100_000)
class ControlSocketFuzzTest {
    private static final long SECONDS = Long.parseLong(
            Optional.ofNullable(System.getenv("EROFS_UBLK_FUZZ_SECONDS")).orElse("10"));
    private static final List<String> SEEDS = List.of(
            "{\"command\":\"ping\"}\n",
            "{\"command\":\"list\"}\n{\"command\":\"stats\"}\n",
            "{\"command\":\"add\",\"source\":{\"image\":\"/nowhere/x\"},\"id\":3,\"queues\":1,\"depth\":128}\n",
            "{\"command\":\"add\",\"source\":{\"meta\":\"/nowhere/m\",\"blob\":[\"/nowhere/a\",\"/nowhere/b\"]}}\n",
            "{\"command\":\"recover\"}\n",
            "\n\n[1,2,{\"x\":null}]\n");

    @TempDir
    private Path dir;

    @Test
    void afterAnythingTheSocketStillAnswersAndNothingIsLeftOpen() throws Exception {
        String given = System.getenv("EROFS_UBLK_FUZZ_SEED");
        long seed = given == null ? System.nanoTime() : Long.parseLong(given);
        System.out.println("ControlSocketFuzzTest seed " + seed);
        Random random = new Random(seed);
        StateDirectory state = StateDirectory.at(dir.resolve("run"));
        state.create();
        ControlProtocol protocol = new ControlProtocol(
                new Daemon(state, AllowedPaths.of(List.of()), false),
                () -> {
                    throw new AssertionError("handed over");
                },
                () -> {
                    throw new AssertionError("shut down");
                });
        Log.threshold(Log.Level.ERROR);
        int conversations = 0;
        try (ControlServer server = ControlServer.open(state.socket(), protocol::answer)) {
            ping(state);
            long descriptors = descriptors();
            for (long end = System.nanoTime() + SECONDS * 1_000_000_000L; System.nanoTime() < end; conversations++) {
                converse(state.socket(), random);
                if (conversations % 64 == 0) {
                    ping(state);
                }
            }
            ping(state);
            VerifiedReader.await(() -> descriptors() <= descriptors);
            VerifiedReader.await(() -> Thread.getAllStackTraces().keySet().stream()
                    .noneMatch(thread -> thread.getName().equals("control-peer")));
            assertThat(server).isNotNull();
        } finally {
            Log.threshold(Log.Level.INFO);
        }
        System.out.println("ControlSocketFuzzTest: " + conversations + " conversations");
        assertThat(conversations).isGreaterThan(100);
    }

    private static void ping(StateDirectory state) throws IOException {
        try (ControlClient client = ControlClient.connect(state).orElseThrow()) {
            assertThat(client.call(new JsonObject().put("command", "ping")).number("devices"))
                    .isZero();
        }
    }

    private static long descriptors() throws IOException {
        try (Stream<Path> files = Files.list(Path.of("/proc/self/fd"))) {
            return files.count();
        }
    }

    private static void converse(Path socket, Random random) throws IOException {
        try (SocketChannel peer = SocketChannel.open(UnixDomainSocketAddress.of(socket))) {
            ByteBuffer bytes = ByteBuffer.wrap(bytes(random));
            int end = bytes.limit();
            while (bytes.position() < end) {
                bytes.limit(Math.min(end, bytes.position() + 1 + random.nextInt(4096)));
                while (bytes.hasRemaining()) {
                    peer.write(bytes);
                }
            }
            switch (random.nextInt(3)) {
                case 0 -> {} // leaves without a word
                case 1 -> {
                    peer.shutdownOutput();
                    drain(peer);
                }
                default -> peer.read(ByteBuffer.allocate(1 + random.nextInt(64))); // leaves in the middle of the answer
            }
        } catch (IOException e) {
            // it was sent away in the middle, as it deserves
        }
    }

    private static void drain(SocketChannel peer) throws IOException {
        ByteBuffer answers = ByteBuffer.allocate(4096);
        while (peer.read(answers) >= 0) {
            answers.clear();
        }
    }

    private static byte[] bytes(Random random) {
        StringBuilder text = new StringBuilder();
        for (int n = random.nextInt(4); n >= 0; n--) {
            text.append(SEEDS.get(random.nextInt(SEEDS.size())));
        }
        if (random.nextInt(50) == 0) {
            text.insert(random.nextInt(text.length()), "x".repeat(random.nextInt(100_000)));
        }
        byte[] bytes = text.toString().getBytes(StandardCharsets.UTF_8);
        for (int n = random.nextInt(8); n > 0; n--) {
            int at = random.nextInt(bytes.length);
            switch (random.nextInt(3)) {
                case 0 -> bytes[at] = (byte) random.nextInt();
                case 1 -> bytes[at] = (byte) "{}[]\",:0-9e.\\\n".charAt(random.nextInt(14));
                default -> bytes[at] ^= (byte) (1 << random.nextInt(8));
            }
        }
        bytes[bytes.length - 1] = '\n'; // so that whoever waits for an answer gets one
        return bytes;
    }
}

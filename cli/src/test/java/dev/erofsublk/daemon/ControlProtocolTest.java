// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.ByteArrayInputStream;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What the daemon makes of requests, as far as no device is needed. */
@Timeout(120)
class ControlProtocolTest {
    private static final long FUZZ_NANOS = 5_000_000_000L;

    private static final List<String> SEEDS = List.of(
            "{\"command\":\"ping\"}",
            "{\"command\":\"add\",\"source\":{\"image\":\"/nowhere/x.erofs\"},\"id\":-1,\"queues\":1,\"depth\":128,"
                    + "\"block_size\":4096,\"recovery\":\"reissue\",\"unprivileged\":false}",
            "{\"command\":\"add\",\"source\":{\"meta\":\"/nowhere/m\",\"blob\":[\"/nowhere/a\",\"/nowhere/b\"]}}",
            "{\"command\":\"add\",\"source\":{\"blobs\":\"/nowhere\",\"meta\":null}}",
            "{\"command\":\"recover\",\"id\":7}",
            "{\"command\":\"recover\"}",
            "{\"command\":\"list\"}",
            "{\"command\":\"stats\",\"x\":[[1,2.5,{\"y\":true}]]}");

    @TempDir
    private Path dir;

    private ControlProtocol protocol;
    private StateDirectory state;

    @BeforeEach
    void create() throws Exception {
        state = StateDirectory.at(dir.resolve("run"));
        state.create();
        protocol = new ControlProtocol(
                new Daemon(state, AllowedPaths.of(List.of()), false),
                () -> {
                    throw new AssertionError("handed over");
                },
                () -> {
                    throw new AssertionError("shut down");
                });
    }

    private JsonObject answer(String request) throws Exception {
        return JsonObject.parse(protocol.answer(request).line());
    }

    @Test
    void pingTellsWhoAnswers() throws Exception {
        JsonObject answer = answer("{\"command\":\"ping\"}");
        assertThat(answer.bool("ok", false)).isTrue();
        assertThat(answer.number("pid")).isEqualTo(ProcessHandle.current().pid());
        assertThat(answer.number("devices")).isZero();
    }

    @Test
    void aWrongRequestIsAnsweredWithFieldFoundAndExpected() throws Exception {
        assertRefused("x", "not JSON");
        assertRefused("[]", "not JSON: expected an object");
        assertRefused("{} {}", "not JSON: expected nothing behind the object");
        assertRefused("{\"command\":\"list\",\"command\":\"list\"}", "not usable: there are two fields \"command\"");
        assertRefused("{}", "field \"command\" is missing, expected a string");
        assertRefused("{\"command\":7}", "field \"command\" is 7, expected a string");
        assertRefused("{\"command\":\"dance\"}", "field \"command\" is dance, expected ping, add,");
        assertRefused("{\"command\":\"del\"}", "field \"id\" is missing, expected a whole number");
        assertRefused("{\"command\":\"del\",\"id\":-1}", "field \"id\" is -1, expected 0 to 1048575");
        assertRefused("{\"command\":\"add\"}", "field \"source\" is missing, expected an object");
        assertRefused("{\"command\":\"add\",\"source\":{}}", "field \"source\" has the wrong parts");
        assertRefused(
                "{\"command\":\"add\",\"source\":{\"image\":\"../x\"}}",
                "field \"image\" is ../x, expected an absolute path");
        assertRefused(
                "{\"command\":\"add\",\"source\":{\"image\":\"/x\"},\"depth\":0}",
                "field \"depth\" is 0, expected 1 to 4096");
        assertRefused(
                "{\"command\":\"add\",\"source\":{\"image\":\"/x\"},\"block_size\":1000}",
                "field \"block_size\" is 1000, expected 512, 1024, 2048 or 4096");
        assertRefused(
                "{\"command\":\"add\",\"source\":{\"image\":\"/x\",\"verity\":\"0\"}}",
                "field \"verity\" is 0, expected a salt: an even number");
        assertRefused("{\"command\":\"add\",\"source\":{\"image\":\"/nowhere/x\"}}", "/nowhere/x");
        assertRefused("[".repeat(5000), "not JSON");
        assertRefused("{\"a\":".repeat(5000), "not JSON");
        assertRefused("{\"command\":\"" + "x".repeat(10_000) + "\"}", "a string of 10000 characters, expected");
        assertRefused("{\"command\":99999999999999999999}", "a number of more than 64 bits, 99999999999999999999");
        assertRefused("{\"command\":1e999999999999999999999}", "a number of 23 characters, expected at most 20");
        assertRefused("{\"command\":\"list\"", "not JSON: it ends too early");
    }

    private void assertRefused(String request, String error) throws Exception {
        JsonObject answer = answer(request);
        assertThat(answer.bool("ok", true)).as(request).isFalse();
        assertThat(answer.string("error")).contains(error);
    }

    @Test
    void noRequestBringsTheParserDown() throws Exception {
        long seed = System.nanoTime();
        System.out.println("ControlProtocolTest seed " + seed);
        Random random = new Random(seed);
        int tried = 0;
        for (long end = System.nanoTime() + FUZZ_NANOS; System.nanoTime() < end; tried++) {
            String request = mutate(SEEDS.get(random.nextInt(SEEDS.size())), random);
            String answer = protocol.answer(request).line();
            assertThat(answer).doesNotContain("\n").doesNotContain("internal error");
            JsonObject.parse(answer);
        }
        System.out.println("ControlProtocolTest tried " + tried + " requests");
        assertThat(tried).isGreaterThan(1000);
    }

    private static String mutate(String seed, Random random) {
        StringBuilder text = new StringBuilder(seed);
        for (int n = random.nextInt(6); n >= 0 && !text.isEmpty(); n--) {
            int at = random.nextInt(text.length());
            switch (random.nextInt(5)) {
                case 0 -> text.setCharAt(at, (char) random.nextInt(128));
                case 1 -> text.deleteCharAt(at);
                case 2 -> text.insert(at, "{}[]\",:0-9e.\\u0000\ud800tfn".charAt(random.nextInt(22)));
                case 3 -> text.insert(at, text.substring(at, Math.min(text.length(), at + random.nextInt(20))));
                default -> text.setLength(at);
            }
        }
        // shutdown and hand-over are not for this test
        return text.toString().replace("shut", "").replace("hand", "");
    }

    @Test
    void linesAreBoundedWholeAndUtf8() throws Exception {
        assertThat(lines("a\nbc\n\n")).containsExactly("a", "bc", "");
        assertThat(lines("x".repeat(100_000) + "\ny\n")).containsExactly("x".repeat(100_000), "y");
        assertThatThrownBy(() -> lines("a\nb")).hasMessageContaining("not complete");
        assertThatThrownBy(() -> lines("x".repeat(JsonObject.MAX_CHARACTERS + 1)))
                .hasMessageContaining("too long");
        assertThatThrownBy(() -> new LineReader(new ByteArrayInputStream(new byte[] {(byte) 0xff, '\n'})).next())
                .hasMessageContaining("UTF-8");
    }

    private static List<String> lines(String text) throws Exception {
        LineReader reader = new LineReader(new ByteArrayInputStream(text.getBytes(StandardCharsets.UTF_8)));
        List<String> lines = new ArrayList<>();
        for (String line = reader.next(); line != null; line = reader.next()) {
            lines.add(line);
        }
        return lines;
    }

    @Test
    void theSocketIsPrivateAndAnswersManyPeersAtOnce() throws Exception {
        try (ControlServer server = ControlServer.open(state.socket(), protocol::answer)) {
            assertThat(PosixFilePermissions.toString(Files.getPosixFilePermissions(state.socket())))
                    .isEqualTo("rw-------");
            List<ControlClient> clients = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                clients.add(ControlClient.connect(state).orElseThrow());
            }
            for (ControlClient client : clients) {
                assertThat(client.call(new JsonObject().put("command", "ping")).has("pid"))
                        .isTrue();
                assertThatThrownBy(() -> client.call(new JsonObject().put("command", "none")))
                        .isInstanceOf(DaemonException.class)
                        .hasMessageContaining("expected ping");
                client.close();
            }
            assertThat(server).isNotNull();
        }
        assertThat(state.socket()).doesNotExist();
        assertThat(ControlClient.connect(state)).isEmpty();
    }

    @Test
    void aPeerThatLeavesInTheMiddleDisturbsNobody() throws Exception {
        try (ControlServer server = ControlServer.open(state.socket(), protocol::answer)) {
            for (int i = 0; i < 200; i++) { // three times the connections there may be
                try (SocketChannel peer = SocketChannel.open(UnixDomainSocketAddress.of(state.socket()))) {
                    peer.write(ByteBuffer.wrap("{\"command\":".getBytes(StandardCharsets.US_ASCII)));
                }
            }
            try (ControlClient client = ControlClient.connect(state).orElseThrow()) {
                assertThat(client.call(new JsonObject().put("command", "ping")).has("pid"))
                        .isTrue();
            }
            assertThat(server).isNotNull();
        }
    }

    @Test
    void whoeverComesWhenTooManyAreConnectedIsToldSo() throws Exception {
        try (ControlServer server = ControlServer.open(state.socket(), protocol::answer)) {
            List<ControlClient> idle = new ArrayList<>();
            for (int i = 0; i < 64; i++) {
                idle.add(ControlClient.connect(state).orElseThrow());
            }
            try (ControlClient client = ControlClient.connect(state).orElseThrow()) {
                assertThatThrownBy(() -> client.call(new JsonObject().put("command", "ping")))
                        .isInstanceOf(DaemonException.class)
                        .hasMessageContaining("64 connections are open already");
            }
            idle.removeFirst().close();
            try (ControlClient client = ControlClient.connect(state).orElseThrow()) {
                assertThat(client.call(new JsonObject().put("command", "ping")).has("pid"))
                        .isTrue();
            }
            for (ControlClient client : idle) {
                client.close();
            }
            assertThat(server).isNotNull();
        }
    }
}

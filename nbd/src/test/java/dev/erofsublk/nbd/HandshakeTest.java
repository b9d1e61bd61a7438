// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static dev.erofsublk.nbd.Client.cat;
import static dev.erofsublk.nbd.Client.contexts;
import static dev.erofsublk.nbd.Client.string;
import static dev.erofsublk.nbd.Client.u16;
import static dev.erofsublk.nbd.Client.u32;
import static dev.erofsublk.nbd.Client.u64;
import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Every message of the client's side of the handshake, well-formed and broken. */
class HandshakeTest {
    private static final int UNSUP = 0x80000001;
    private static final int INVALID = 0x80000003;
    private static final int UNKNOWN = 0x80000006;
    private static final int TOO_BIG = 0x80000009;

    @TempDir
    Path directory;

    private final List<String> log = Collections.synchronizedList(new ArrayList<>());
    private TestImage image;
    private NbdServer server;
    private Path socket;

    @BeforeEach
    void serve() throws IOException {
        image = TestImage.layers(directory);
        server = new NbdServer(image.exports(), Limits.DEFAULT, null, log::add);
        socket = directory.resolve("s");
        server.listen(socket);
    }

    @AfterEach
    void stop() {
        server.close();
        image.close();
        assertThat(log).noneMatch(line -> line.contains("defect") || line.contains("Exception"));
    }

    private Client greeted() throws IOException {
        return Client.greeted(socket);
    }

    @Nested
    @DisplayName("the greeting")
    class Greeting {
        @Test
        void endsTheConnectionForUnknownClientFlags() throws IOException {
            try (Client client = Client.connect(socket)) {
                client.greet(4 | 3);
                assertThat(client.isHungUp()).isTrue();
            }
        }

        @Test
        void allowsOnlyExportNameWithoutFixedNewstyle() throws IOException {
            try (Client client = Client.connect(socket)) {
                client.greet(0);
                client.option(3);
                assertThat(client.isHungUp()).isTrue();
            }
            try (Client client = Client.connect(socket)) {
                client.greet(0);
                client.option(1, "disk".getBytes(StandardCharsets.UTF_8));
                assertThat(client.read(8)).isEqualTo(u64(image.content.length));
                client.read(2);
                assertThat(client.read(124)).containsOnly(0);
                assertThat(client.readSimple(4096, 512)).hasSize(512);
            }
        }

        @Test
        void endsTheConnectionForAWrongOptionMagic() throws IOException {
            try (Client client = greeted()) {
                client.send(u64(0x49484156454f5055L), u32(3), u32(0));
                assertThat(client.isHungUp()).isTrue();
            }
        }

        @Test
        void survivesAClientThatClosesWithinIt() throws IOException {
            for (int bytes = 0; bytes < 4; bytes++) {
                try (Client client = Client.connect(socket)) {
                    client.send(new byte[bytes]);
                }
            }
            try (Client client = greeted()) {
                client.option(3);
                assertThat(client.reply().type()).isEqualTo(2);
            }
        }
    }

    @Nested
    @DisplayName("EXPORT_NAME")
    class ExportName {
        @Test
        void leavesTheZeroesOutForAClientThatDoesNotWantThem() throws IOException {
            try (Client client = greeted()) {
                client.option(1, "disk".getBytes(StandardCharsets.UTF_8));
                assertThat(client.read(8)).isEqualTo(u64(image.content.length));
                int flags = client.read(2)[1] & 0xff;
                assertThat(flags & 0x7).as("HAS_FLAGS, READ_ONLY, SEND_FLUSH").isEqualTo(7);
                assertThat(flags & 0x80)
                        .as("SEND_DF without structured replies")
                        .isZero();
                assertThat(client.readSimple(0, 512)).hasSize(512);
            }
        }

        @Test
        void meansTheFirstExportByTheEmptyName() throws IOException {
            try (Client client = greeted()) {
                client.option(1);
                assertThat(client.read(8)).isEqualTo(u64(image.content.length));
            }
        }

        @ParameterizedTest
        @ValueSource(ints = {3, 257, 3000, 4096, 4097, 32768, 32769, 1 << 20, (1 << 20) + 1})
        void endsTheConnectionForANameThatIsUnknownOrTooLong(int length) throws IOException {
            try (Client client = greeted()) {
                client.send(u64(0x49484156454f5054L), u32(1), u32(length), new byte[Math.min(length, 1000)]);
                assertThat(client.finish()).isEmpty();
            }
        }
    }

    @Nested
    @DisplayName("GO and INFO")
    class GoAndInfo {
        @Test
        void tellWhatTheClientAsksFor() throws IOException {
            try (Client client = greeted()) {
                client.option(6, string("other"), u16(4), u16(1), u16(2), u16(3), u16(77));
                assertThat(client.reply().data())
                        .startsWith(u16(0))
                        .containsSequence(u64(image.content.length))
                        .hasSize(12);
                assertThat(client.reply().data()).isEqualTo(cat(u16(1), "other".getBytes(StandardCharsets.UTF_8)));
                assertThat(client.reply().data())
                        .isEqualTo(cat(u16(2), "about other".getBytes(StandardCharsets.UTF_8)));
                assertThat(client.reply().data()).isEqualTo(cat(u16(3), u32(1), u32(4096), u32(32 << 20)));
                assertThat(client.reply().type()).isEqualTo(1);
                client.go("other"); // INFO was only a question
            }
        }

        @Test
        void answerATypeAskedForAgainOnlyOnce() throws IOException {
            byte[] often = new byte[2 * 16000];
            for (int i = 1; i < often.length; i += 2) {
                often[i] = 1;
            }
            try (Client client = greeted()) {
                client.option(6, string("disk"), u16(16000), often);
                assertThat(client.reply().data()).startsWith(u16(0));
                assertThat(client.reply().data()).startsWith(u16(1));
                assertThat(client.reply().type()).isEqualTo(1);
            }
        }

        @Test
        void advertiseDontFragmentOnlyWithStructuredReplies() throws IOException {
            try (Client client = greeted()) {
                client.option(6, string("disk"), u16(0));
                assertThat(client.reply().data()[11] & 0x80).isZero();
                client.reply();
                client.option(8);
                client.reply();
                client.option(6, string("disk"), u16(0));
                assertThat(client.reply().data()[11] & 0x80).isEqualTo(0x80);
            }
        }

        @ParameterizedTest
        @ValueSource(ints = {6, 7})
        void refuseWhatDoesNotFit(int option) throws IOException {
            byte[][] broken = {
                new byte[0],
                new byte[3],
                u32(4), // no name
                cat(u32(-1), u16(0)), // CVE-2022-26495
                cat(u32(5000), u16(0)),
                cat(u32(5000), new byte[5000], u16(0)),
                cat(u32(4097), new byte[4097], u16(0)),
                string("disk"), // no count
                cat(string("disk"), u16(1)), // fewer than counted
                cat(string("disk"), u16(0), u16(1)), // more
                cat(string("disk"), u16(65535)),
                cat(string("disk"), u16(0), new byte[1]),
            };
            try (Client client = greeted()) {
                for (byte[] data : broken) {
                    client.option(option, data);
                    assertThat(client.reply().type()).isEqualTo(INVALID);
                }
                client.go("disk");
            }
        }

        @ParameterizedTest
        @ValueSource(ints = {1, 256, 257, 4096})
        void refuseUnknownNamesOfAnyLengthWithAShortText(int length) throws IOException {
            try (Client client = greeted()) {
                client.option(7, u32(length), "x".repeat(length).getBytes(StandardCharsets.UTF_8), u16(0));
                Client.Reply reply = client.reply();
                assertThat(reply.type()).isEqualTo(UNKNOWN);
                assertThat(reply.data()).hasSizeLessThan(256); // CVE-2020-10761
                client.go("disk");
            }
        }
    }

    @Nested
    @DisplayName("LIST, ABORT, STRUCTURED_REPLY and unknown options")
    class Others {
        @Test
        void listNamesTheExportsInTheirOrder() throws IOException {
            try (Client client = greeted()) {
                client.option(3);
                assertThat(client.reply().data())
                        .isEqualTo(cat(string("disk"), "about disk".getBytes(StandardCharsets.UTF_8)));
                assertThat(client.reply().data())
                        .isEqualTo(cat(string("other"), "about other".getBytes(StandardCharsets.UTF_8)));
                assertThat(client.reply().type()).isEqualTo(1);
            }
        }

        @ParameterizedTest
        @ValueSource(ints = {3, 8})
        void dataWhereNoneBelongsIsInvalid(int option) throws IOException {
            try (Client client = greeted()) {
                client.option(option, new byte[5]);
                assertThat(client.reply().type()).isEqualTo(INVALID);
                client.go("disk");
            }
        }

        @Test
        void abortIsAcknowledgedAndEndsTheConnection() throws IOException {
            try (Client client = greeted()) {
                client.option(2);
                assertThat(client.reply().type()).isEqualTo(1);
                assertThat(client.isHungUp()).isTrue();
            }
        }

        @ParameterizedTest
        @ValueSource(ints = {0, 4, 11, 12, 99, -1, Integer.MIN_VALUE})
        void unknownOptionsAreUnsupportedAndHarmless(int option) throws IOException {
            try (Client client = greeted()) {
                client.option(option, new byte[100]);
                Client.Reply reply = client.reply();
                assertThat(reply.option()).isEqualTo(option);
                assertThat(reply.type()).isEqualTo(UNSUP);
                client.go("disk");
            }
        }

        @Test
        void startTlsIsUnsupportedWithoutCertificates() throws IOException {
            try (Client client = greeted()) {
                client.option(5);
                assertThat(client.reply().type()).isEqualTo(UNSUP);
                client.go("disk");
            }
        }

        @Test
        void aLongOptionIsSkippedAndAVeryLongOneEndsTheConnection() throws IOException { // CVE-2017-15119
            try (Client client = greeted()) {
                client.option(99, new byte[(32 << 10) + 1]);
                assertThat(client.reply().type()).isEqualTo(TOO_BIG);
                client.option(7, new byte[1 << 20]);
                assertThat(client.reply().type()).isEqualTo(TOO_BIG);
                client.send(u64(0x49484156454f5054L), u32(3), u32(-1));
                assertThat(client.isHungUp()).isTrue();
            }
        }

        @Test
        void tooManyOptionsEndTheConnection() throws IOException {
            try (Client client = greeted()) {
                for (int i = 0; i < Limits.DEFAULT.options(); i++) {
                    client.option(8);
                    assertThat(client.reply().type()).isEqualTo(1);
                }
                assertThat(client.isHungUp()).isTrue();
            }
        }

        @Test
        void optionsMayComeByteByByteOrAllAtOnce() throws IOException {
            byte[] options = cat(
                    Client.optionBytes(8),
                    Client.optionBytes(3),
                    Client.optionBytes(7, string("disk"), u16(0)),
                    Client.requestBytes(0, 0, 5, 4096, 512));
            try (Client slow = greeted();
                    Client fast = greeted()) {
                for (byte b : options) {
                    slow.send(new byte[] {b});
                }
                fast.send(options);
                byte[] answer = fast.finish();
                assertThat(answer).hasSizeGreaterThan(512 + 28);
                assertThat(slow.finish()).isEqualTo(answer);
            }
        }
    }

    @Nested
    @DisplayName("metadata contexts")
    class MetaContexts {
        @ParameterizedTest
        @ValueSource(ints = {9, 10})
        void needStructuredReplies(int option) throws IOException {
            try (Client client = greeted()) {
                client.option(option, contexts("disk", "base:allocation"));
                assertThat(client.reply().type()).isEqualTo(INVALID);
            }
        }

        @Test
        void areListedForAllForTheNamespaceAndByName() throws IOException {
            try (Client client = greeted()) {
                client.option(8);
                client.reply();
                for (byte[] query : List.of(
                        contexts("disk"), contexts("disk", "base:"), contexts("", "base:allocation", "qemu:x"))) {
                    client.option(9, query);
                    assertThat(client.reply().data())
                            .isEqualTo(cat(u32(0), "base:allocation".getBytes(StandardCharsets.UTF_8)));
                    assertThat(client.reply().type()).isEqualTo(1);
                }
                client.option(9, contexts("disk", "qemu:dirty-bitmap:x"));
                assertThat(client.reply().type()).isEqualTo(1);
            }
        }

        @Test
        void selectedLastCount() throws IOException {
            try (Client client = greeted()) {
                client.option(8);
                client.reply();
                client.option(10, contexts("disk", "base:allocation"));
                assertThat(client.reply().type()).isEqualTo(4);
                client.reply();
                client.option(10, contexts("disk", "base:other"));
                assertThat(client.reply().type()).isEqualTo(1);
                client.go("disk");
                client.request(0, 7, 1, 0, 4096);
                assertThat(client.chunk().u32(0)).isEqualTo(22);
            }
        }

        @Test
        void ofAnotherExportDoNotCount() throws IOException {
            try (Client client = greeted()) {
                client.option(8);
                client.reply();
                client.option(10, contexts("other", "base:allocation"));
                client.reply();
                client.reply();
                client.go("disk");
                client.request(0, 7, 1, 0, 4096);
                assertThat(client.chunk().u32(0)).isEqualTo(22);
            }
        }

        @ParameterizedTest
        @ValueSource(ints = {9, 10})
        void refuseWhatDoesNotFit(int option) throws IOException {
            byte[][] broken = {
                new byte[0],
                u32(-1),
                string("disk"),
                cat(string("disk"), new byte[3]),
                cat(string("disk"), u32(1)),
                cat(string("disk"), u32(-1)), // 4 G queries, none there
                cat(string("disk"), u32(1), u32(-1)), // query length overflow
                cat(string("disk"), u32(1), u32(100), new byte[99]),
                cat(string("disk"), u32(1), string("base:allocation"), new byte[1]),
                cat(string("disk"), u32(2), string("base:allocation")),
            };
            try (Client client = greeted()) {
                client.option(8);
                client.reply();
                for (byte[] data : broken) {
                    client.option(option, data);
                    assertThat(client.reply().type()).isEqualTo(INVALID);
                }
                client.option(option, contexts("nowhere", "base:allocation"));
                assertThat(client.reply().type()).isEqualTo(UNKNOWN);
                client.go("disk");
            }
        }
    }
}

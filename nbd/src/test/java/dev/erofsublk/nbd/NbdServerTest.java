// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.ServerSocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(60)
class NbdServerTest {
    @TempDir
    Path directory;

    private final List<String> log = Collections.synchronizedList(new ArrayList<>());
    private TestImage image;
    private Path socket;

    @BeforeEach
    void open() throws IOException {
        image = TestImage.layers(directory);
        socket = directory.resolve("s");
    }

    @AfterEach
    void close() {
        image.close();
        assertThat(log).noneMatch(line -> line.contains("defect") || line.contains("Exception"));
    }

    private NbdServer server(Limits limits) throws IOException {
        NbdServer server = new NbdServer(image.exports(), limits, null, log::add);
        server.listen(socket);
        return server;
    }

    @Test
    void servesTcpToo() throws IOException {
        try (NbdServer server = server(Limits.DEFAULT)) {
            for (String host : List.of("127.0.0.1", "::1")) {
                InetSocketAddress any = new InetSocketAddress(InetAddress.getByName(host), 0);
                InetSocketAddress bound = server.listen(any);
                assertThat(bound.getPort()).isPositive();
                try (Client client = Client.connect(bound)) {
                    client.greet(3);
                    client.option(8);
                    client.reply();
                    client.go("disk");
                    assertThat(client.readStructured(0, 0, image.content.length))
                            .isEqualTo(image.content);
                    assertThat(client.readStructured(4, 512, image.content.length - 512))
                            .isEqualTo(Arrays.copyOfRange(image.content, 512, image.content.length));
                }
            }
        }
    }

    @Test
    void turnsAwayOneClientMoreThanItIsToHave() throws Exception {
        try (NbdServer server = server(new Limits(3, Duration.ofSeconds(30), 32, 32 << 10))) {
            List<Client> clients = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                clients.add(Client.greeted(socket));
            }
            try (Client fourth = Client.connect(socket)) {
                assertThat(fourth.isHungUp()).isTrue();
            }
            clients.removeFirst().close();
            while (server.connectionCount() == 3) {
                Thread.sleep(1);
            }
            try (Client next = Client.simple(socket, "disk")) {
                assertThat(next.readSimple(0, 512)).hasSize(512);
            }
            for (Client client : clients) {
                client.go("disk");
                client.close();
            }
            assertThat(log).anyMatch(line -> line.contains("turned away"));
        }
    }

    @Test
    void hangsUpOnAClientThatDoesNotNegotiateInTime() throws Exception {
        try (NbdServer server = server(new Limits(9, Duration.ofMillis(700), 32, 32 << 10));
                Client silent = Client.connect(socket);
                Client slow = Client.greeted(socket);
                Client quick = Client.simple(socket, "disk")) {
            slow.send(Client.u64(0x49484156454f5054L));
            assertThat(slow.isHungUp()).isTrue();
            silent.read(18);
            assertThat(silent.isHungUp()).isTrue();
            assertThat(quick.readSimple(0, 512)).as("one that had in time").hasSize(512);
            while (server.connectionCount() > 1) {
                Thread.sleep(1);
            }
            assertThat(log).anyMatch(line -> line.contains("too long"));
        }
    }

    /** CVE-2024-7409: a server that stops while clients are in any state. */
    @Test
    void closesWhileClientsAreInAnyState() throws Exception {
        for (int round = 0; round < 20; round++) {
            NbdServer server = server(Limits.DEFAULT);
            try (Client silent = Client.connect(socket);
                    Client greeted = Client.greeted(socket);
                    Client serving = Client.structured(socket, "disk");
                    Client stuck = Client.simple(socket, "disk")) {
                greeted.option(8);
                for (int i = 0; i < 5; i++) {
                    stuck.request(0, 0, i, 0, image.content.length); // and does not read the replies
                }
                assertThat(serving.readStructured(0, 0, 4096)).hasSize(4096);
                server.close();
                assertThat(serving.isHungUp()).isTrue();
                assertThat(server.connectionCount()).isZero();
                assertThat(silent.finish()).hasSizeLessThanOrEqualTo(18);
            }
            assertThat(socket).doesNotExist();
        }
    }

    @Test
    void replacesTheSocketOfADeadServerButNothingElse() throws IOException {
        try (ServerSocketChannel dead = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
            dead.bind(UnixDomainSocketAddress.of(socket));
        }
        assertThat(socket).exists();
        try (NbdServer first = server(Limits.DEFAULT)) {
            assertThatThrownBy(() -> server(Limits.DEFAULT))
                    .isInstanceOf(LinuxException.class)
                    .hasMessageContaining("EADDRINUSE");
            try (Client client = Client.simple(socket, "disk")) {
                assertThat(client.readSimple(0, 512)).hasSize(512);
            }
            assertThat(first.connectionCount()).isLessThanOrEqualTo(2);
        }
        Files.writeString(socket, "a file");
        assertThatThrownBy(() -> server(Limits.DEFAULT)).isInstanceOf(LinuxException.class);
        assertThat(socket).hasContent("a file");
    }

    @Test
    void refusesAPathThatIsTooLongForASocket() {
        socket = directory.resolve("x".repeat(120));
        assertThatThrownBy(() -> server(Limits.DEFAULT))
                .isInstanceOf(LinuxException.class)
                .hasMessageContaining("ENAMETOOLONG");
    }

    @Test
    void refusesTwoExportsOfOneNameAndNone() {
        Export export = image.export("a");
        assertThatThrownBy(() -> new Exports(List.of(export, export))).isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> new Exports(List.of())).isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> image.export("x".repeat(4097))).isInstanceOf(IllegalArgumentException.class);
    }
}

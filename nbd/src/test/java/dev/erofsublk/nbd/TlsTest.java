// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static dev.erofsublk.nbd.Client.cat;
import static dev.erofsublk.nbd.Client.contexts;
import static dev.erofsublk.nbd.Client.string;
import static dev.erofsublk.nbd.Client.u16;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** STARTTLS, with certificates that keytool makes. */
@Timeout(120)
class TlsTest {
    private static final int INVALID = 0x80000003;
    private static final int TLS_REQD = 0x80000005;
    private static final char[] PASSWORD = "secret".toCharArray();

    @TempDir
    static Path pki;

    @TempDir
    Path directory;

    private final List<String> log = Collections.synchronizedList(new ArrayList<>());
    private TestImage image;

    @BeforeAll
    static void certify() throws Exception {
        keytool("-genkeypair", "-alias", "ca", "-dname", "CN=test CA", "-ext", "bc:c", "-keystore", "ca.p12");
        for (String name : List.of("server", "client")) {
            keytool("-genkeypair", "-alias", name, "-dname", "CN=" + name, "-keystore", name + ".p12");
            keytool("-certreq", "-alias", name, "-keystore", name + ".p12", "-file", name + ".csr");
            keytool(
                    "-gencert",
                    "-alias",
                    "ca",
                    "-keystore",
                    "ca.p12",
                    "-infile",
                    name + ".csr",
                    "-outfile",
                    name + ".crt",
                    "-rfc",
                    "-ext",
                    "san=dns:localhost,ip:127.0.0.1");
            keytool("-exportcert", "-rfc", "-alias", "ca", "-keystore", "ca.p12", "-file", "ca-cert.pem");
            keytool("-importcert", "-noprompt", "-alias", "ca", "-keystore", name + ".p12", "-file", "ca-cert.pem");
            keytool("-importcert", "-noprompt", "-alias", name, "-keystore", name + ".p12", "-file", name + ".crt");
            Files.copy(pki.resolve(name + ".crt"), pki.resolve(name + "-cert.pem"));
            byte[] key = store(name).getKey(name, PASSWORD).getEncoded();
            Files.writeString(
                    pki.resolve(name + "-key.pem"),
                    "-----BEGIN PRIVATE KEY-----\n"
                            + Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(key)
                            + "\n-----END PRIVATE KEY-----\n",
                    StandardCharsets.US_ASCII);
        }
    }

    private static void keytool(String... arguments) throws Exception {
        List<Object> command = new ArrayList<>();
        command.add(Path.of(System.getProperty("java.home"), "bin", "keytool"));
        command.addAll(List.of(arguments));
        command.addAll(List.of("-storepass", "secret", "-storetype", "PKCS12"));
        if (arguments[0].equals("-genkeypair")) {
            command.addAll(List.of("-keyalg", "RSA", "-keysize", "2048", "-validity", "2"));
        }
        for (int i = 0; i < command.size(); i++) {
            if (command.get(i) instanceof String word && word.matches("[\\w-]+\\.(p12|csr|crt|pem)")) {
                command.set(i, pki.resolve(word));
            }
        }
        Tool.run(command.toArray());
    }

    private static KeyStore store(String name) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream in = Files.newInputStream(pki.resolve(name + ".p12"))) {
            store.load(in, PASSWORD);
        }
        return store;
    }

    @BeforeEach
    void open() throws IOException {
        image = TestImage.layers(directory);
    }

    @AfterEach
    void close() {
        image.close();
        assertThat(log).noneMatch(line -> line.contains("defect"));
    }

    private NbdServer server(boolean required, boolean verify) throws IOException {
        return new NbdServer(image.exports(), Limits.DEFAULT, Tls.fromDirectory(pki, required, verify), log::add);
    }

    private static InetSocketAddress listen(NbdServer server) throws IOException {
        return server.listen(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0));
    }

    private static Client startTls(InetSocketAddress address, boolean certified, String protocol) throws Exception {
        Client client = Client.connect(address);
        client.greet(3);
        client.option(5);
        assertThat(client.reply().type()).isEqualTo(1);
        upgrade(client, certified, protocol);
        return client;
    }

    private static void upgrade(Client client, boolean certified, String protocol) throws Exception {
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(store("client"), PASSWORD);
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store("client"));
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(certified ? keys.getKeyManagers() : null, trust.getTrustManagers(), null);
        SSLSocket tls = (SSLSocket) context.getSocketFactory()
                .createSocket(client.socket(), "localhost", client.socket().getPort(), true);
        tls.setEnabledProtocols(new String[] {protocol});
        tls.startHandshake();
        client.replaceStreams(tls.getInputStream(), tls.getOutputStream());
    }

    @ParameterizedTest
    @ValueSource(strings = {"TLSv1.2", "TLSv1.3"})
    void readsOverTlsGiveTheImagesBytes(String protocol) throws Exception {
        try (NbdServer server = server(true, protocol.equals("TLSv1.2"))) {
            InetSocketAddress address = listen(server);
            try (Client client = startTls(address, true, protocol);
                    Client simple = startTls(address, true, protocol)) {
                client.option(8);
                client.reply();
                client.go("disk");
                simple.go("disk");
                Random random = new Random(7);
                for (int i = 0; i < 60; i++) {
                    int offset = random.nextInt(image.content.length);
                    int length = Math.min(1 + random.nextInt(2 << 20), image.content.length - offset);
                    byte[] expected = Arrays.copyOfRange(image.content, offset, offset + length);
                    assertThat(client.readStructured(0, offset, length)).isEqualTo(expected);
                    assertThat(client.readStructured(4, offset, length)).isEqualTo(expected);
                    assertThat(simple.readSimple(offset, length)).isEqualTo(expected);
                }
                client.request(0, 2, 1, 0, 0);
                assertThat(client.isHungUp()).isTrue();
            }
        }
        assertThat(log).isEmpty();
    }

    @Test
    void nothingButStartTlsAndAbortIsAnsweredBefore() throws Exception {
        try (NbdServer server = server(true, false)) {
            InetSocketAddress address = listen(server);
            try (Client client = Client.connect(address)) {
                client.greet(3);
                for (int option : new int[] {3, 6, 7, 8, 9, 10, 99}) {
                    client.option(option, cat(string("disk"), u16(0)));
                    assertThat(client.reply().type()).isEqualTo(TLS_REQD);
                }
                client.option(5, new byte[1]);
                assertThat(client.reply().type()).isEqualTo(INVALID);
                client.option(2);
                assertThat(client.reply().type()).isEqualTo(1);
                assertThat(client.isHungUp()).isTrue();
            }
            try (Client client = Client.connect(address)) {
                client.greet(3);
                client.option(1, "disk".getBytes(StandardCharsets.UTF_8));
                assertThat(client.isHungUp()).isTrue();
            }
        }
    }

    /** CVE-2021-3716. */
    @Test
    void whatWasNegotiatedInTheClearIsForgotten() throws Exception {
        try (NbdServer server = server(false, false)) {
            InetSocketAddress address = listen(server);
            try (Client client = Client.connect(address)) {
                client.greet(3);
                client.option(8);
                client.reply();
                client.option(10, contexts("disk", "base:allocation"));
                client.reply();
                client.reply();
                client.option(5);
                assertThat(client.reply().type()).isEqualTo(1);
                upgrade(client, false, "TLSv1.3");
                client.option(10, contexts("disk", "base:allocation"));
                assertThat(client.reply().type())
                        .as("structured replies are off again")
                        .isEqualTo(INVALID);
                client.option(5);
                assertThat(client.reply().type()).as("a second STARTTLS").isEqualTo(INVALID);
                client.go("disk");
                assertThat(client.readSimple(0, 512)).hasSize(512);
            }
        }
    }

    @Test
    void bytesInTheClearBehindStartTlsEndTheConnection() throws Exception {
        try (NbdServer server = server(false, false)) {
            try (Client client = Client.connect(listen(server))) {
                client.greet(3);
                client.send(Client.optionBytes(5), Client.optionBytes(8), Client.optionBytes(3));
                client.reply();
                assertThat(client.isHungUp()).isTrue();
            }
        }
        assertThat(log).anyMatch(line -> line.contains("in the clear"));
    }

    @Test
    void aClientWithoutCertificateIsRefusedWhereOneIsWanted() throws Exception {
        try (NbdServer server = server(true, true)) {
            InetSocketAddress address = listen(server);
            assertThatThrownBy(() -> {
                        try (Client client = startTls(address, false, "TLSv1.2")) {
                            client.go("disk");
                        }
                    })
                    .isInstanceOf(IOException.class);
        }
        assertThat(log).anyMatch(line -> line.contains("TLS"));
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 5, 100, 20_000, 100_000})
    void garbageInsteadOfTheTlsHandshakeEndsTheConnection(int bytes) throws Exception {
        try (NbdServer server = server(true, false)) {
            try (Client client = Client.connect(listen(server))) {
                client.greet(3);
                client.option(5);
                client.reply();
                byte[] garbage = new byte[bytes];
                new Random(bytes).nextBytes(garbage);
                assertThat(endsAfter(client, garbage)).isTrue();
            }
        }
    }

    private static boolean endsAfter(Client client, byte[] garbage) {
        try {
            client.send(garbage);
            client.finish();
            return true;
        } catch (IOException e) {
            return true; // it hung up before it had read everything
        }
    }

    @Test
    void aKeyStoreServesAsWell() throws Exception {
        Tls tls = Tls.fromKeyStore(pki.resolve("server.p12"), PASSWORD, true, true);
        try (NbdServer server = new NbdServer(image.exports(), Limits.DEFAULT, tls, log::add);
                Client client = startTls(listen(server), true, "TLSv1.2")) {
            client.go("disk");
            assertThat(client.readSimple(0, 4096)).isEqualTo(Arrays.copyOf(image.content, 4096));
        }
    }

    @Test
    void unreadableCertificatesAreNamed() throws IOException {
        assertThatThrownBy(() -> Tls.fromDirectory(directory, true, true))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("server-cert.pem");
        Files.copy(pki.resolve("server-cert.pem"), directory.resolve("server-cert.pem"));
        Files.writeString(directory.resolve("server-key.pem"), "-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
        assertThatThrownBy(() -> Tls.fromDirectory(directory, true, true))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("server-key.pem");
        Files.writeString(directory.resolve("server-cert.pem"), "nonsense");
        assertThatThrownBy(() -> Tls.fromDirectory(directory, true, true))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("server-cert.pem");
    }

    @Test
    void keysInTheFormOfPkcs1AreUnderstood() throws Exception {
        Tool.assume("openssl");
        Tool.run(
                "openssl",
                "rsa",
                "-traditional",
                "-in",
                pki.resolve("server-key.pem"),
                "-out",
                directory.resolve("k.pem"));
        assertThat(Files.readString(directory.resolve("k.pem"))).contains("BEGIN RSA PRIVATE KEY");
        assertThat(Pem.privateKey(directory.resolve("k.pem"))).isEqualTo(Pem.privateKey(pki.resolve("server-key.pem")));
    }

    @Test
    void nbdinfoAndNbdcopyTalkTls() throws Exception {
        Tool.assume("nbdinfo", "nbdcopy");
        try (NbdServer server = server(true, true)) {
            String where = "localhost:" + listen(server).getPort() + "/disk";
            String secure = "nbds://" + where + "?tls-certificates=" + pki;
            assertThat(Tool.run("nbdinfo", "--size", secure).strip()).isEqualTo("" + image.content.length);
            assertThat(Tool.attempt("nbdinfo", "nbd://" + where).status()).isNotZero();
            Path copy = directory.resolve("copy");
            Tool.run("nbdcopy", secure, copy);
            assertThat(copy).hasBinaryContent(image.content);
        }
    }

    @Test
    void qemuImgTalksTls() throws Exception {
        Tool.assume("qemu-img");
        Path raw = Files.write(directory.resolve("raw"), image.content);
        try (NbdServer server = server(true, true)) {
            int port = listen(server).getPort();
            assertThat(Tool.run(
                            "qemu-img",
                            "compare",
                            "--object",
                            "tls-creds-x509,id=t0,endpoint=client,dir=" + pki,
                            "--image-opts",
                            "driver=nbd,host=localhost,export=disk,tls-creds=t0,port=" + port,
                            "driver=file,filename=" + raw))
                    .contains("identical");
        }
    }
}

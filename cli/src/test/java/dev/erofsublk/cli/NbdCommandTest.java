// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.erofsublk.composer.TestImages.Kind;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The command {@code nbd}, as a process of its own, and the clients that people have. */
@Timeout(300)
class NbdCommandTest {
    private static final String PASSWORD = "secret";

    @TempDir
    private Path dir;

    private final List<Process> servers = new ArrayList<>();

    private record Outcome(int status, String out, String err) {}

    @AfterEach
    void stop() throws Exception {
        for (Process server : servers) {
            server.destroyForcibly().waitFor();
        }
    }

    @Test
    void whatCannotBeMeantIsOneLineAndStatusTwo() throws Exception {
        Path file = Files.write(dir.resolve("file"), new byte[4096]);
        assertUsage("nothing to serve on: use --socket PATH, --listen HOST:PORT, --stdio or --device /dev/nbdN|auto");
        assertUsage("--stdio and --device go alone", "--stdio", "--socket", "s");
        assertUsage("--device is sda, expected /dev/nbdN or auto", "--device", "sda");
        assertUsage("--device is 3, expected /dev/nbdN or auto", "--device", "3");
        assertUsage("--connections is 65, expected 1 to 64", "--device", "auto", "--connections", "65");
        assertUsage("--timeout is 0, expected 1 to 86400 seconds", "--device", "auto", "--timeout", "0");
        assertUsage("--name and --export go with --socket, --listen or --stdio", "--device", "auto", "--name", "x");
        assertUsage("--timeout and --dead-timeout go with --device", "--socket", "s", "--timeout", "3");
        assertUsage("--block-size goes with --device", "--socket", "s", "--block-size", "512");
        assertUsage("--handshake-timeout is 0, expected 1 to 3600", "--stdio", "--handshake-timeout", "0");
        assertUsage("--tls and --tls-verify-peer go with --tls-certificates", "--socket", "s", "--tls", "on");
        assertUsage("--listen is 10809, expected HOST:PORT, such as localhost:10809 or [::1]:0", "--listen", "10809");
        assertUsage("--listen is a:b, expected HOST:PORT, such as localhost:10809 or [::1]:0", "--listen", "a:b");
        assertUsage("--export is x, expected NAME=PATH", "--image", file.toString(), "--socket", "s", "--export", "x");
        assertUsage(
                "there are two exports with the name \"\"",
                "--image",
                file.toString(),
                "--socket",
                "s",
                "--export",
                "=" + file);
    }

    private static void assertUsage(String sentence, String... args) throws Exception {
        List<String> words = new ArrayList<>(List.of("nbd"));
        words.addAll(Arrays.asList(args));
        assertThat(CommandLineTest.run(words.toArray(String[]::new)))
                .extracting("status", "err")
                .as(words.toString())
                .containsExactly(2, "erofs-ublk: " + sentence + " (see 'erofs-ublk nbd --help')\n");
    }

    @Test
    void whatWouldReadWrongIsNotServed() throws Exception {
        List<String> image = BrokenImage.write(dir);
        for (List<String> way : List.of(
                List.of("nbd", "--socket", dir.resolve("socket").toString()),
                List.of("nbd", "--device", "auto"),
                List.of("add", "--backend", "nbd", "--foreground"))) {
            List<String> words = new ArrayList<>(way);
            words.addAll(image);
            assertThat(CommandLineTest.run(words.toArray(String[]::new)))
                    .extracting("status", "out", "err")
                    .as(words.toString())
                    .containsExactly(1, "", "erofs-ublk: " + image.get(1) + ": " + BrokenImage.WHAT + "\n");
        }
        assertThat(dir.resolve("socket")).doesNotExist();
    }

    @Test
    void clientsFindTheExportsAndTheirBytes() throws Exception {
        assume("nbdinfo", "nbdcopy", "qemu-img");
        Path socket = dir.resolve("a socket");
        List<String> options = new ArrayList<>(Kind.B.sourceOptions());
        options.addAll(List.of(
                "--name",
                "three layers",
                "--export",
                "plain=" + Kind.PLAIN.directory(),
                "--socket",
                socket.toString()));
        options.addAll(List.of("--listen", "127.0.0.1:0"));
        Process server = serve(options);
        var lines = server.inputReader();
        String layers = lines.readLine();
        String plain = lines.readLine();
        String tcp = lines.readLine();
        assertThat(layers)
                .isEqualTo(
                        "nbd+unix:///three%20layers?socket=" + socket.toString().replace(" ", "%20"));
        assertThat(plain).startsWith("nbd+unix:///plain?socket=");
        assertThat(tcp).matches("nbd://127\\.0\\.0\\.1:\\d+/three%20layers");

        String raw = Kind.B.raw().toString();
        String size = Long.toString(Files.size(Kind.B.raw()));
        assertThat(run("nbdinfo", "--json", layers).replaceAll("\\s", ""))
                .contains("\"export-name\":\"threelayers\"")
                .contains("\"export-size\":" + size)
                .contains("\"is_read_only\":true")
                .contains("\"can_multi_conn\":true");
        assertThat(run("nbdinfo", "--list", plain))
                .contains("export=\"three layers\"")
                .contains("export=\"plain\"");
        assertThat(run("nbdinfo", "--map", "--totals", tcp)).contains(size);
        Path copy = dir.resolve("copy");
        run("nbdcopy", "--connections=4", layers, copy.toString());
        assertThat(Files.mismatch(copy, Kind.B.raw())).isEqualTo(-1);
        assertThat(run("qemu-img", "compare", "-f", "raw", "-F", "raw", raw, tcp))
                .contains("identical");

        server.destroy();
        server.waitFor();
        assertThat(socket).doesNotExist();
        assertThat(dir.resolve("err")).isEmptyFile();
    }

    @Test
    void tlsIsRequiredWhereThereAreCertificates() throws Exception {
        assume("nbdinfo");
        Path pki = certify();
        List<String> options = new ArrayList<>(Kind.PLAIN.sourceOptions());
        options.addAll(List.of("--listen", "localhost:0", "--tls-certificates", pki.toString()));
        String uri = serve(options).inputReader().readLine();
        assertThat(uri).startsWith("nbds://");
        String size = run("nbdinfo", "--size", uri.replace("127.0.0.1", "localhost") + "?tls-certificates=" + pki);
        assertThat(size.strip()).isEqualTo("" + Files.size(Kind.PLAIN.raw()));
        assertThat(attempt("nbdinfo", "--size", uri.replace("nbds", "nbd")).status)
                .isNotZero();
    }

    /** Each session of the corpus, through the command as inetd starts it: it ends well and says nothing else. */
    @Test
    void everySessionOfTheCorpusIsServedOnStandardInputAndOutput() throws Exception {
        Path corpus = Path.of("../nbd/src/test/corpus");
        Path answers = dir.resolve("answers");
        try (var recipes = Files.list(corpus)) {
            for (Path recipe : recipes.sorted().toList()) {
                byte[] session =
                        HexFormat.of().parseHex(Files.readString(recipe).replaceAll("#.*|\\s", ""));
                Path input = Files.write(dir.resolve("session"), session);
                List<String> options = new ArrayList<>(Kind.B.sourceOptions());
                options.addAll(List.of("--name", "disk", "--export", "other=" + Kind.PLAIN.directory(), "--stdio"));
                Process server = start(options)
                        .redirectInput(input.toFile())
                        .redirectOutput(answers.toFile())
                        .start();
                servers.add(server);
                assertThat(server.waitFor(60, TimeUnit.SECONDS))
                        .as("%s ended", recipe)
                        .isTrue();
                assertThat(server.exitValue()).as(recipe.toString()).isZero();
                assertThat(dir.resolve("err")).isEmptyFile();
                assertThat(Files.readAllBytes(answers)).as(recipe.toString()).startsWith("NBDMAGICIHAVEOPT".getBytes());
                assertThat(Files.size(answers)).isGreaterThan(session.length / 2);
            }
        }
    }

    @Test
    void aSilentClientOnAPipeIsGivenUp() throws Exception {
        List<String> options = new ArrayList<>(Kind.PLAIN.sourceOptions());
        options.addAll(List.of("--stdio", "--handshake-timeout", "1"));
        Process server = start(options).start();
        servers.add(server);
        assertThat(server.waitFor(60, TimeUnit.SECONDS)).as("it ended").isTrue();
        assertThat(server.exitValue()).isEqualTo(1);
        assertThat(dir.resolve("err"))
                .hasContent("erofs-ublk: nbd: the client disconnected: the handshake took too long\n");
    }

    private Process serve(List<String> options) throws IOException {
        Process server = start(options).start();
        servers.add(server);
        return server;
    }

    private ProcessBuilder start(List<String> options) {
        List<String> command = new ArrayList<>(List.of(
                Path.of(System.getProperty("java.home"), "bin/java").toString(),
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                System.getProperty("java.class.path"),
                Main.class.getName(),
                "nbd"));
        command.addAll(options);
        return new ProcessBuilder(command).redirectError(dir.resolve("err").toFile());
    }

    /** A server's certificate and key, and the authority's, under the names that clients and servers expect. */
    private Path certify() throws Exception {
        keytool("-genkeypair", "-alias", "ca", "-dname", "CN=ca", "-ext", "bc:c", "-keystore", "ca.p12");
        keytool("-genkeypair", "-alias", "server", "-dname", "CN=localhost", "-keystore", "server.p12");
        keytool("-certreq", "-alias", "server", "-keystore", "server.p12", "-file", "csr");
        String[] sign = {"-gencert", "-rfc", "-alias", "ca", "-keystore", "ca.p12", "-infile", "csr"};
        keytool(with(sign, "-ext", "san=dns:localhost", "-outfile", "server-cert.pem"));
        keytool("-exportcert", "-rfc", "-alias", "ca", "-keystore", "ca.p12", "-file", "ca-cert.pem");
        KeyStore store = KeyStore.getInstance(dir.resolve("server.p12").toFile(), PASSWORD.toCharArray());
        byte[] key = store.getKey("server", PASSWORD.toCharArray()).getEncoded();
        Files.writeString(
                dir.resolve("server-key.pem"),
                "-----BEGIN PRIVATE KEY-----\n" + Base64.getMimeEncoder().encodeToString(key)
                        + "\n-----END PRIVATE KEY-----\n");
        return dir;
    }

    private static String[] with(String[] words, String... more) {
        List<String> all = new ArrayList<>(Arrays.asList(words));
        all.addAll(Arrays.asList(more));
        return all.toArray(String[]::new);
    }

    private void keytool(String... args) throws Exception {
        String[] program = {
            Path.of(System.getProperty("java.home"), "bin/keytool").toString()
        };
        Process process = new ProcessBuilder(
                        with(with(program, args), "-storepass", PASSWORD, "-keyalg", "EC", "-storetype", "PKCS12"))
                .directory(dir.toFile())
                .redirectErrorStream(true)
                .start();
        String said = new String(process.getInputStream().readAllBytes());
        assertThat(process.waitFor()).as(said).isZero();
    }

    private static void assume(String... programs) {
        for (String program : programs) {
            boolean found = Arrays.stream(System.getenv("PATH").split(":"))
                    .anyMatch(directory -> Files.isExecutable(Path.of(directory, program)));
            assumeTrue(found, "not run: there is no " + program + " on the PATH");
        }
    }

    private static String run(String... command) throws Exception {
        Outcome outcome = attempt(command);
        assertThat(outcome.status)
                .as(Arrays.toString(command) + "\n" + outcome.err)
                .isZero();
        return outcome.out;
    }

    private static Outcome attempt(String... command) throws Exception {
        Path err = Files.createTempFile("err", null);
        try {
            Process process =
                    new ProcessBuilder(command).redirectError(err.toFile()).start();
            String out = new String(process.getInputStream().readAllBytes());
            return new Outcome(process.waitFor(), out, Files.readString(err));
        } finally {
            Files.delete(err);
        }
    }
}

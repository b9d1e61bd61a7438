// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static dev.erofsublk.daemon.VerifiedReader.await;
import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.source.ImageSource;
import dev.erofsublk.nbd.NbdDevice;
import dev.erofsublk.nbd.NbdInfo;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Daemons with devices of the nbd driver, killed and started again. How often is in {@code EROFS_UBLK_NBD_KILLS}, 2 if not
 * set (scripts/soak-nbd has 50): each costs the start of a JVM, and the time that the driver gives an answer.
 */
@Tag("kernel")
@Timeout(3600)
class NbdDaemonDeathTest {
    private static final int KILLS = Integer.parseInt(
            Optional.ofNullable(System.getenv("EROFS_UBLK_NBD_KILLS")).orElse("2"));
    private static final List<Kind> KINDS = List.of(Kind.A, Kind.B);

    @TempDir
    private Path dir;

    private final List<Process> processes = new ArrayList<>();
    private StateDirectory state;

    @BeforeEach
    void create() throws Exception {
        state = StateDirectory.at(dir.resolve("run"));
        state.create();
    }

    @AfterEach
    void end() throws Exception {
        for (Process process : processes) {
            process.destroyForcibly().waitFor();
        }
        for (NbdInfo device : NbdInfo.all()) {
            NbdDevice.disconnect(device.index());
        }
        if (KILLS < 10) {
            Files.readAllLines(dir.resolve("log")).forEach(System.out::println);
        }
    }

    @Test
    void killedDaemonsAreOnlyAPauseForReadersOfNbdDevices() throws Exception {
        serve();
        await(() -> pid().isPresent());
        List<VerifiedReader> readers = new ArrayList<>();
        for (Kind kind : KINDS) {
            readers.add(new VerifiedReader(add(kind), Files.readAllBytes(kind.raw())));
        }
        assertThat(state.ids()).extracting(DeviceId::backend).containsOnly(Backend.NBD);
        List<Long> pauses = new ArrayList<>();
        for (int kill = 0; kill < KILLS; kill++) {
            for (VerifiedReader reader : readers) {
                reader.awaitMore(2);
            }
            boolean standby = kill % 2 == 1;
            if (standby) {
                standBy();
            }
            long pid = pid().orElseThrow();
            long start = System.nanoTime();
            ProcessHandle.of(pid).orElseThrow().destroyForcibly();
            if (!standby) {
                serve();
            }
            await(() -> pid().filter(now -> now != pid).isPresent());
            for (VerifiedReader reader : readers) {
                reader.awaitMore(2);
                assertThat(reader.failure()).isNull();
            }
            pauses.add((System.nanoTime() - start) / 1_000_000);
            System.out.printf("kill %d (%s): %d ms%n", kill + 1, standby ? "stand-by" : "restart", pauses.getLast());
        }
        if (KILLS > 2) {
            long pid = pid().orElseThrow();
            serve("--takeover");
            await(() -> pid().filter(now -> now != pid).isPresent());
        }
        for (VerifiedReader reader : readers) {
            reader.assertWell();
        }
        System.out.printf(
                "NbdDaemonDeathTest: kills survived %d, errors 0, wrong bytes 0, %d verified reads, kill to answer %s ms%n",
                KILLS, readers.stream().mapToLong(VerifiedReader::reads).sum(), pauses);
        call(new JsonObject().put("command", "del").put("all", true));
        assertThat(NbdInfo.all()).isEmpty();
        assertThat(state.ids()).isEmpty();
    }

    private String add(Kind kind) throws IOException {
        ImageSource source = new ImageSource(null, kind.meta(), kind.blobs(), null, null, List.of(), null);
        return call(new JsonObject()
                        .put("command", "add")
                        .put("backend", "nbd")
                        .put("queues", 2)
                        .put("timeout", 2)
                        .put("dead_timeout", 3600) // even if the host has the guest stand still meanwhile
                        .put("source", new SourceSpec(source).toJson()))
                .string("device");
    }

    private void serve(String... options) throws IOException {
        List<String> command = new ArrayList<>(List.of("erofs-ublk", "serve", "--log-level=debug"));
        command.addAll(List.of(options));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().put("EROFS_UBLK_RUN", state.toString());
        builder.redirectOutput(
                ProcessBuilder.Redirect.appendTo(dir.resolve("log").toFile()));
        processes.add(builder.start());
    }

    /** Starts a stand-by and waits until it has everything mapped. */
    private void standBy() throws Exception {
        long before = prepared();
        serve("--standby");
        await(() -> prepared() == before + KINDS.size());
    }

    private long prepared() throws IOException {
        return Files.readAllLines(dir.resolve("log")).stream()
                .filter(line -> line.endsWith("is prepared"))
                .count();
    }

    private JsonObject call(JsonObject request) throws IOException {
        try (ControlClient client = ControlClient.connect(state).orElseThrow()) {
            return client.call(request);
        }
    }

    private Optional<Long> pid() {
        Optional<ControlClient> client = ControlClient.connect(state);
        if (client.isEmpty()) {
            return Optional.empty();
        }
        try (ControlClient daemon = client.get()) {
            return Optional.of(
                    daemon.call(new JsonObject().put("command", "ping")).number("pid"));
        } catch (IOException e) {
            return Optional.empty(); // between two
        }
    }
}

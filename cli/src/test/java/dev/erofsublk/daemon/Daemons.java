// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static dev.erofsublk.daemon.VerifiedReader.await;
import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.concurrent.Callable;

/** Real daemons, {@code erofs-ublk serve}, over one state directory, each with a log of its own. */
final class Daemons {
    private final Path dir;
    private final StateDirectory state;
    private final List<Process> processes = new ArrayList<>();

    Daemons(Path dir) throws IOException {
        this.dir = dir;
        state = StateDirectory.at(dir.resolve("run"));
        state.create();
    }

    StateDirectory state() {
        return state;
    }

    /** Starts one and waits until it, or another, answers. */
    void serve(String... options) throws Exception {
        start(options);
        await("daemon", () -> tryPid().isPresent());
    }

    void start(String... options) throws IOException {
        List<String> command = new ArrayList<>(List.of("erofs-ublk", "serve", "--log-level=debug"));
        command.addAll(List.of(options));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().put("EROFS_UBLK_RUN", dir.resolve("run").toString());
        builder.redirectOutput(log(processes.size()).toFile());
        processes.add(builder.start());
    }

    /** Starts a stand-by and waits until it has {@code devices} mapped. */
    void standBy(int devices) throws Exception {
        start("--standby");
        Path log = log(processes.size() - 1);
        await(
                "stand-by",
                () -> Files.readAllLines(log).stream()
                                .filter(line -> line.endsWith("is prepared"))
                                .count()
                        == devices);
    }

    interface Death {
        void of(long pid) throws Exception;
    }

    static void kill(long pid) {
        ProcessHandle.of(pid).orElseThrow().destroyForcibly();
    }

    /** How many milliseconds it takes until another process answers and every reader goes on. */
    long replaced(List<VerifiedReader> readers, Death death) throws Exception {
        for (VerifiedReader reader : readers) {
            reader.awaitMore(2);
            assertThat(reader.failure()).as("before the death").isNull();
        }
        long pid = pid();
        long start = System.nanoTime();
        death.of(pid);
        await("next daemon", () -> tryPid().filter(now -> now != pid).isPresent());
        for (VerifiedReader reader : readers) {
            reader.awaitMore(2);
            assertThat(reader.failure()).isNull();
        }
        return (System.nanoTime() - start) / 1_000_000;
    }

    /** Waits as long as the daemon that was started last lives. */
    private void await(String what, Callable<Boolean> condition) throws Exception {
        Process process = processes.getLast();
        VerifiedReader.await(() -> condition.call() || !process.isAlive());
        assertThat(process.isAlive())
                .as(() -> what + " lives; it says: " + said(processes.size() - 1))
                .isTrue();
    }

    JsonObject call(JsonObject request) throws IOException {
        try (ControlClient client = ControlClient.connect(state).orElseThrow()) {
            return client.call(request);
        }
    }

    long pid() throws IOException {
        return call(new JsonObject().put("command", "ping")).number("pid");
    }

    private Optional<Long> tryPid() {
        try {
            return Optional.of(pid());
        } catch (IOException | NoSuchElementException e) {
            return Optional.empty(); // between two
        }
    }

    private Path log(int process) {
        return dir.resolve("log" + process);
    }

    private String said(int process) {
        try {
            return Files.readString(log(process));
        } catch (IOException e) {
            return e.toString();
        }
    }

    /** Kills those that still run. */
    void end() throws InterruptedException {
        for (Process process : processes) {
            process.destroyForcibly().waitFor();
        }
    }

    void printLogs() {
        for (int i = 0; i < processes.size(); i++) {
            System.out.print(said(i));
        }
    }
}

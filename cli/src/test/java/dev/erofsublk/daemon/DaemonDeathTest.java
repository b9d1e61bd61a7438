// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.source.ImageSource;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Real daemons, killed and replaced. How often is in {@code EROFS_UBLK_KILLS}, 4 if not set: each costs the start of a
 * JVM, which takes half a minute in an emulated guest on a busy machine.
 */
@Tag("kernel")
@Timeout(900)
class DaemonDeathTest {
    private static final int KILLS = Integer.parseInt(
            Optional.ofNullable(System.getenv("EROFS_UBLK_KILLS")).orElse("4"));
    private static final List<Kind> KINDS = List.of(Kind.A, Kind.B, Kind.C, Kind.B2);

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
        try (ControlDevice control = ControlDevice.open()) {
            for (int id : ControlDevice.ids()) {
                control.stop(id);
                control.deleteSoon(id);
            }
        }
        for (int i = 0; i < processes.size(); i++) {
            Files.readAllLines(log(i)).forEach(System.out::println);
        }
    }

    @Test
    void killedAndReplacedDaemonsAreOnlyAPauseForTheirReaders() throws Exception {
        serve("--standby");
        for (Kind kind : KINDS) {
            List<Path> blobs = kind.blobs();
            SourceSpec source = new SourceSpec(new ImageSource(null, kind.meta(), blobs, null, null, List.of(), null));
            call(new JsonObject().put("command", "add").put("source", source.toJson()));
        }
        List<Reader> readers = new ArrayList<>();
        for (int i = 0; i < KINDS.size(); i++) {
            readers.add(
                    new Reader("/dev/ublkb" + i, Files.readAllBytes(KINDS.get(i).raw())));
        }
        List<Long> pauses = new ArrayList<>();
        for (int kill = 0; kill < KILLS; kill++) {
            standBy();
            pauses.add(afterwards(
                    readers, pid -> ProcessHandle.of(pid).orElseThrow().destroyForcibly()));
            System.out.printf(
                    "DaemonDeathTest: kill %d of %d, answered after %d ms%n", kill + 1, KILLS, pauses.getLast());
        }
        long upgrade = afterwards(readers, pid -> serveLater("--takeover"));
        for (Reader reader : readers) {
            reader.close();
            assertThat(reader.failure).isNull();
        }
        System.out.printf(
                "DaemonDeathTest: kills survived %d, errors 0, wrong bytes 0, %d verified reads, kill to answer %s ms,"
                        + " upgrade with JVM start %d ms%n",
                KILLS, readers.stream().mapToLong(reader -> reader.reads).sum(), pauses, upgrade);
        // 0.5 s is for a machine of one's own: this one may have many guests at once
        assertThat(pauses).allMatch(pause -> pause < 30_000);
        call(new JsonObject().put("command", "del").put("all", true));
        await(() -> ControlDevice.ids().isEmpty()); // the kernel forgets a device when its last user has left
        assertThat(state.ids()).isEmpty();
    }

    @Test
    void aDeviceWhoseSourceHasChangedIsNotTakenOver() throws Exception {
        Path image = Files.copy(Kind.PLAIN.meta(), dir.resolve("image"));
        serve();
        JsonObject add = new JsonObject()
                .put("command", "add")
                .put("source", new SourceSpec(ImageSource.ofFile(image)).toJson());
        assertThat(call(add).string("device")).isEqualTo("/dev/ublkb0");
        // and while it is in use, it is not deleted, and the answer names the user
        int fd = Linux.open("/dev/ublkb0", Linux.O_RDONLY);
        assertThatThrownBy(() -> call(new JsonObject().put("command", "del").put("id", 0)))
                .hasMessageContaining(
                        "open in process " + ProcessHandle.current().pid());
        Linux.close(fd);
        ProcessHandle.of(pid()).orElseThrow().destroyForcibly();
        Files.setLastModifiedTime(image, FileTime.fromMillis(1));
        serve();
        assertThatThrownBy(() -> call(new JsonObject().put("command", "recover").put("id", 0)))
                .hasMessageContaining("its source has changed: " + image + " was modified");
        assertThat(Purge.run(state, false)).containsExactly("/dev/ublkb0");
        await(() -> ControlDevice.ids().isEmpty());
    }

    private interface Death {
        void of(long pid) throws Exception;
    }

    /** How many milliseconds it takes until another process answers and every reader goes on. */
    private long afterwards(List<Reader> readers, Death death) throws Exception {
        long pid = pid();
        long start = System.nanoTime();
        death.of(pid);
        awaitDaemon(() -> tryPid().filter(now -> now != pid).isPresent());
        for (Reader reader : readers) {
            reader.awaitMore(2);
        }
        return (System.nanoTime() - start) / 1_000_000;
    }

    private void serve(String... options) throws Exception {
        serveLater(options);
        awaitDaemon(() -> tryPid().isPresent());
    }

    /** As {@link #await}, but only as long as the daemon that was started last lives. */
    private void awaitDaemon(Callable<Boolean> condition) throws Exception {
        Process process = processes.getLast();
        await(() -> condition.call() || !process.isAlive());
        assertThat(process.isAlive())
                .as(() -> "it runs; it says: " + said(processes.size() - 1))
                .isTrue();
    }

    private String said(int process) {
        try {
            return Files.readString(log(process));
        } catch (IOException e) {
            return e.toString();
        }
    }

    private void serveLater(String... options) throws IOException {
        List<String> command = new ArrayList<>(List.of("erofs-ublk", "serve", "--log-level=debug"));
        command.addAll(List.of(options));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().put("EROFS_UBLK_RUN", dir.resolve("run").toString());
        builder.redirectOutput(log(processes.size()).toFile());
        processes.add(builder.start());
    }

    private Path log(int process) {
        return dir.resolve("log" + process);
    }

    /** Starts a stand-by and waits until it has everything mapped. */
    private void standBy() throws Exception {
        serveLater("--standby");
        Path log = log(processes.size() - 1);
        awaitDaemon(() -> Files.readAllLines(log).stream()
                        .filter(line -> line.endsWith("is prepared"))
                        .count()
                == KINDS.size());
    }

    private JsonObject call(JsonObject request) throws IOException {
        try (ControlClient client = ControlClient.connect(state).orElseThrow()) {
            return client.call(request);
        }
    }

    private long pid() throws IOException {
        return call(new JsonObject().put("command", "ping")).number("pid");
    }

    private Optional<Long> tryPid() {
        try {
            return Optional.of(pid());
        } catch (IOException | NoSuchElementException e) {
            return Optional.empty(); // between two
        }
    }

    /** Reads a device from end to end, again and again, past the page cache, and compares. */
    private static final class Reader implements AutoCloseable {
        private static final int LENGTH = 64 << 10;
        /** Four readers without a pause leave next to nothing of an emulated guest's two CPUs to a JVM that starts. */
        private static final long PAUSE_MILLIS = 3;

        private final byte[] expected;
        private final int fd;
        private final Thread thread;
        private volatile boolean stop;
        private volatile long reads;
        private volatile Throwable failure;

        Reader(String device, byte[] expected) throws IOException {
            this.expected = expected;
            fd = Linux.open(device, Linux.O_RDONLY | Linux.O_DIRECT);
            thread = Thread.ofPlatform().name("reader").start(this::run);
        }

        private void run() {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment target = arena.allocate(LENGTH, 4096);
                MemorySegment wanted = MemorySegment.ofArray(expected);
                for (long at = 0; !stop; at = at + LENGTH < expected.length ? at + LENGTH : 0) {
                    long length = Math.min(LENGTH, expected.length - at);
                    assertThat(Linux.read(fd, target.asSlice(0, length), at)).isEqualTo(length);
                    assertThat(target.asSlice(0, length).mismatch(wanted.asSlice(at, length)))
                            .isEqualTo(-1);
                    reads++;
                    Thread.sleep(PAUSE_MILLIS);
                }
            } catch (Throwable e) {
                failure = e;
            }
        }

        void awaitMore(int n) throws Exception {
            long enough = reads + n;
            await(() -> reads >= enough || failure != null);
        }

        @Override
        public void close() throws IOException {
            stop = true;
            try {
                thread.join();
            } catch (InterruptedException e) {
                throw new IOException(e);
            }
            Linux.close(fd);
        }
    }

    private static void await(Callable<Boolean> condition) throws Exception {
        for (int tries = 0; !condition.call(); tries++) {
            assertThat(tries).as("tries of 10 ms").isLessThan(12_000);
            Thread.sleep(10);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static dev.erofsublk.daemon.VerifiedReader.await;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.erofsublk.composer.source.ImageSource;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DeviceState;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * What befalls a daemon's process. One daemon for all tests but the last moments of some, as each costs the start of a
 * JVM in an emulated guest.
 */
@Tag("kernel")
@Timeout(600)
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class DaemonProcessTest {
    private static final int STOP_SECONDS = Integer.parseInt(
            Optional.ofNullable(System.getenv("EROFS_UBLK_STOP_SECONDS")).orElse("10"));
    private static final int BYTES = 1 << 20;
    private static final int TGKILL = System.getProperty("os.arch").equals("aarch64") ? 131 : 234;

    private final byte[] content = new byte[BYTES];
    private Path dir;
    private Path image;
    private StateDirectory state;
    private Process daemon;

    @BeforeAll
    void create(@TempDir Path directory) throws Exception {
        dir = directory;
        state = StateDirectory.at(dir.resolve("run"));
        new Random(1).nextBytes(content);
        image = Files.write(dir.resolve("image"), content);
    }

    @BeforeEach
    void serve() throws Exception {
        if (daemon == null || !daemon.isAlive()) {
            daemon = command("serve")
                    .redirectErrorStream(true)
                    .redirectOutput(ProcessBuilder.Redirect.appendTo(log().toFile()))
                    .start();
            await(() -> answers() || !daemon.isAlive());
        }
        assertThat(daemon.isAlive()).isTrue();
    }

    @AfterAll
    void end() throws Exception {
        if (daemon != null) {
            daemon.destroyForcibly().waitFor();
            System.out.print(Files.readString(log()));
        }
        try (ControlDevice control = ControlDevice.open()) {
            for (int id : ControlDevice.ids()) {
                control.stop(id);
                control.deleteSoon(id);
            }
        }
    }

    private ProcessBuilder command(String... words) {
        return command(state, words);
    }

    private ProcessBuilder command(StateDirectory where, String... words) {
        List<String> command = new ArrayList<>(List.of("erofs-ublk"));
        command.addAll(Arrays.asList(words));
        ProcessBuilder builder = new ProcessBuilder(command);
        builder.environment().put("EROFS_UBLK_RUN", where.socket().getParent().toString());
        return builder;
    }

    private Path log() {
        return dir.resolve("log");
    }

    private boolean answers() throws IOException {
        Optional<ControlClient> client = ControlClient.connect(state);
        if (client.isEmpty()) {
            return false;
        }
        client.get().close();
        return true;
    }

    private JsonObject call(JsonObject request) throws IOException {
        return call(request, Duration.ofMinutes(3));
    }

    private JsonObject call(JsonObject request, Duration patience) throws IOException {
        try (ControlClient client = ControlClient.connect(state).orElseThrow()) {
            return client.call(request, patience);
        }
    }

    private static JsonObject ask(String command) {
        return new JsonObject().put("command", command);
    }

    private JsonObject addRequest(Path file, String recovery) {
        return ask("add")
                .put("source", new SourceSpec(ImageSource.ofFile(file)).toJson())
                .put("recovery", recovery);
    }

    private String add(Path file, String recovery) throws IOException {
        return call(addRequest(file, recovery)).string("device");
    }

    private void delete(String device) throws IOException {
        call(ask("del").put("id", id(device)));
    }

    private static int id(String device) {
        return Integer.parseInt(device.substring("/dev/ublkb".length()));
    }

    private static void run(String... command) throws Exception {
        assertThat(new ProcessBuilder(command).inheritIO().start().waitFor())
                .as(String.join(" ", command))
                .isZero();
    }

    private String pid() {
        return Long.toString(daemon.pid());
    }

    /** The lowest number that the daemon has no descriptor for: with this as its limit it gets no other. */
    private int freeDescriptor() {
        int free = 0;
        while (Files.exists(Path.of("/proc", pid(), "fd", Integer.toString(free)), LinkOption.NOFOLLOW_LINKS)) {
            free++;
        }
        return free;
    }

    @Test
    void twoFirstAddsAtOnceBothSucceedAndThereIsOneDaemon() throws Exception {
        StateDirectory fresh = StateDirectory.at(dir.resolve("fresh"));
        List<Process> adds = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            adds.add(command(fresh, "add", "--image", image.toString())
                    .redirectError(ProcessBuilder.Redirect.INHERIT)
                    .start());
        }
        List<String> devices = new ArrayList<>();
        for (Process add : adds) {
            devices.add(new String(add.getInputStream().readAllBytes()).strip());
            assertThat(add.waitFor()).isZero();
        }
        assertThat(devices).doesNotHaveDuplicates().allMatch(device -> device.matches("/dev/ublkb\\d+"));
        try (ControlClient client = ControlClient.connect(fresh).orElseThrow();
                ControlDevice control = ControlDevice.open()) {
            long pid = client.call(ask("ping")).number("pid");
            for (String device : devices) {
                new VerifiedReader(device, content).assertWell();
                assertThat(control.find(id(device)).orElseThrow().pid()).isEqualTo((int) pid);
            }
            client.call(ask("del").put("all", true));
        }
        await(() -> ControlClient.connect(fresh).isEmpty()); // it ends with its last device
        assertThat(fresh.ids()).isEmpty();
    }

    @Test
    void aStormOfSignalsLosesNoCommit() throws Exception {
        String device = add(image, "reissue");
        try (VerifiedReader reader = new VerifiedReader(device, content)) {
            // SIGPIPE, which a JVM has a handler for that does nothing, to each thread: the system call that it is in
            // ends
            run(
                    "perl",
                    "-e",
                    "for (1..100) { for (glob(\"/proc/$ARGV[0]/task/*\")) { m{(\\d+)$}; syscall($ARGV[1], $ARGV[0] + 0,"
                            + " $1 + 0, 13) } }",
                    pid(),
                    Integer.toString(TGKILL));
            run(
                    "sh",
                    "-c",
                    "for i in $(seq 100); do for s in WINCH CHLD URG STOP CONT; do kill -$s $0 || exit; done; done",
                    pid());
            reader.awaitMore(2 * BYTES >> 16);
            reader.assertWell();
        }
        delete(device);
    }

    @Test
    void whileTheDaemonIsStoppedReadersWaitAndOthersMayAddAndDelete() throws Exception {
        String device = add(image, "reissue");
        try (VerifiedReader reader = new VerifiedReader(device, content)) {
            reader.awaitMore(2);
            run("kill", "-STOP", pid());
            long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(STOP_SECONDS);
            assertThatThrownBy(() -> call(ask("list"), Duration.ofSeconds(1)))
                    .hasMessageContaining("the daemon does not answer; is it stopped?");
            StateDirectory other = StateDirectory.at(dir.resolve("other"));
            other.create();
            Daemon here = new Daemon(other, AllowedPaths.of(List.of()), false);
            ServedDevice another = here.add(DeviceSpec.fromJson(addRequest(image, "reissue")));
            new VerifiedReader(another.path(), content).assertWell();
            here.deleteAll();
            TimeUnit.NANOSECONDS.sleep(end - System.nanoTime());
            assertThat(reader.failure()).isNull();
            run("kill", "-CONT", pid());
            reader.assertWell();
        }
        delete(device);
    }

    @Test
    void withoutDescriptorsAnAddIsRefusedAndLaterOneIsNot() throws Exception {
        String device = add(image, "reissue");
        try (VerifiedReader reader = new VerifiedReader(device, content)) {
            limitDescriptors(freeDescriptor() + 3);
            assertThatThrownBy(() -> add(image, "reissue"))
                    .isInstanceOf(DaemonException.class)
                    .hasMessageMatching("(?s).*(EMFILE|Too many open files).*");
            Process list = command("list").redirectErrorStream(true).start(); // nobody can take its call
            await(
                    () -> { // the call that failed gives its own back when it likes
                        limitDescriptors(freeDescriptor());
                        return Files.readString(log()).contains("control: cannot accept: Too many open files");
                    });
            reader.awaitMore(BYTES >> 16);
            limitDescriptors(4096);
            assertThat(new String(list.getInputStream().readAllBytes())).contains("state LIVE");
            assertThat(list.waitFor()).isZero();
            String second = add(image, "reissue");
            new VerifiedReader(second, content).assertWell();
            delete(second);
            reader.assertWell();
        } finally {
            limitDescriptors(4096);
        }
        delete(device);
    }

    private void limitDescriptors(int limit) throws Exception {
        run("prlimit", "--pid", pid(), "--nofile=" + limit + ":" + Math.max(limit, 4096));
    }

    @Test
    void aClockThatJumpsDisturbsNobody() throws Exception {
        assumeTrue(
                Files.readString(Path.of("/proc/sys/kernel/hostname")).startsWith("erofs-ublk-vm"),
                "sets the clock, so it runs in vm/run's guests only");
        String device = add(image, "reissue");
        try (VerifiedReader reader = new VerifiedReader(device, content)) {
            for (String jump : List.of("+400 days", "-800 days", "+400 days")) {
                run("date", "--set", jump);
                reader.awaitMore(BYTES >> 16);
                assertThat(call(ask("list")).objects("devices")).hasSize(1);
            }
            reader.assertWell();
        }
        delete(device);
    }

    @Test
    void withoutMemoryPagesComeAndGoAndAKilledDaemonIsReplaced() throws Exception {
        Path group = Path.of("/sys/fs/cgroup/erofs-ublk-test");
        assumeTrue(
                Files.readString(Path.of("/sys/fs/cgroup/cgroup.controllers")).contains("memory"),
                "this machine has no memory controller of cgroup 2");
        Files.writeString(Path.of("/sys/fs/cgroup/cgroup.subtree_control"), "+memory");
        Files.createDirectories(group);
        Path mount = Files.createDirectories(dir.resolve("disk"));
        Path disk = dir.resolve("disk.img");
        // a file system on a disk of sorts: pages of tmpfs could not be given up
        run("truncate", "-s", "48M", disk.toString());
        run("mkfs.ext4", "-q", disk.toString());
        run("mount", "-o", "loop", disk.toString(), mount.toString());
        byte[] large = new byte[32 << 20]; // and the limit is half of it: what the JVM takes meanwhile counts, too
        for (int i = 0; i < large.length; i += BYTES) {
            System.arraycopy(content, 0, large, i, BYTES);
            large[i] = (byte) (i >> 20);
        }
        Path file = Files.write(mount.resolve("large"), large);
        run("sync");
        Files.writeString(Path.of("/proc/sys/vm/drop_caches"), "1");
        String device = add(file, "reissue");
        try (VerifiedReader reader = new VerifiedReader(device, large)) {
            Files.writeString(group.resolve("cgroup.procs"), pid());
            Files.writeString(group.resolve("memory.max"), Integer.toString(16 << 20));
            reader.awaitMore(2 * large.length >> 16);
            reader.assertWell();
            assertThat(Long.parseLong(
                            Files.readString(group.resolve("memory.peak")).strip()))
                    .isBetween(11L << 20, 16L << 20);
        }
        Files.writeString(group.resolve("memory.max"), "max");
        delete(device);
        // of images that are in memory: a page fault of a dying process fails, and a reader's request with it
        String kept = add(image, "reissue");
        String fragile = add(image, "none");
        try (VerifiedReader reader = new VerifiedReader(kept, content);
                VerifiedReader loser = new VerifiedReader(fragile, content)) {
            reader.awaitMore(2 * BYTES >> 16);
            loser.awaitMore(2);
            Files.writeString(group.resolve("memory.max"), "4096");
            await(() -> !daemon.isAlive());
            Files.writeString(group.resolve("memory.max"), "max"); // kernel threads work on the group's behalf, too
            await(() -> loser.failure() != null);
            assertThat(loser.failure()).hasMessageContaining("EIO");
            try (ControlDevice control = ControlDevice.open()) {
                await(() -> control.find(id(fragile)).orElseThrow().state() == DeviceState.DEAD);
                await(() -> control.find(id(kept)).orElseThrow().state() == DeviceState.QUIESCED);
                control.deleteSoon(id(fragile)); // its reader has it open still
            }
            serve();
            reader.assertWell();
        }
        delete(kept);
        run("umount", "-l", mount.toString());
        await(() -> Files.readString(group.resolve("cgroup.procs")).isEmpty());
        Files.delete(group);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.nbd.NbdInfo;
import java.io.BufferedReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The nbd driver as users of the command have it: one test is one life of a device, as each command costs a JVM. */
@Tag("kernel")
@Timeout(600)
class NbdMountTest {
    @TempDir
    private Path dir;

    private record Outcome(int status, String out, String err) {}

    @AfterEach
    void nothingIsLeftBehind() throws Exception {
        run("umount", dir.resolve("mnt").toString());
        if (!NbdInfo.all().isEmpty()) {
            run("erofs-ublk", "del", "--all", "--force");
        }
        assertThat(NbdInfo.all()).isEmpty();
    }

    @Test
    void theDaemonServesOverNbdWhatItServesOverUblk() throws Exception {
        Outcome add = erofsUblk("add", Kind.B, "--backend", "nbd", "-n", "3", "-q", "2");
        assertThat(add).isEqualTo(new Outcome(0, "/dev/nbd3\n", ""));
        Path mnt = mount("/dev/nbd3");
        assertMountedEquals(mnt, Kind.B);

        Outcome again = erofsUblk("add", Kind.B, "--backend", "nbd", "-n", "3");
        assertThat(again).isEqualTo(new Outcome(1, "", "erofs-ublk: /dev/nbd3 is already in use\n"));

        Outcome list = run("erofs-ublk", "list");
        assertThat(list.out)
                .contains("dev id nbd3: nr_hw_queues 2 queue_depth 128 block size 4096 dev_capacity "
                        + Files.size(Kind.B.raw()) / 512)
                .contains(" state LIVE\n\tdevice /dev/nbd3 backend nbd\n\tsource ")
                .doesNotContain("requests 0 ");
        Outcome refused = run("erofs-ublk", "del", "-n", "/dev/nbd3");
        assertThat(refused)
                .isEqualTo(new Outcome(
                        1,
                        "",
                        "erofs-ublk: /dev/nbd3 is mounted on %s: unmount or close it first, or use --force\n"
                                .formatted(mnt)));
        assertMountedEquals(mnt, Kind.B);
        assertThat(run("umount", mnt.toString()).status).isZero();
        assertThat(run("erofs-ublk", "del", "-n", "/dev/nbd3")).isEqualTo(new Outcome(0, "", ""));
    }

    @Test
    void aForegroundServerTakesItsDeviceOverAndPurgeWhatNoneTakes() throws Exception {
        List<String> options = List.of("--device", "/dev/nbd5", "--connections", "2", "--timeout", "2");
        Process first = serve(options);
        Path mnt = mount("/dev/nbd5");
        first.destroyForcibly().waitFor();
        assertThat(run("erofs-ublk", "list", "--json", "-n", "nbd5").out)
                .contains("\"device\": \"/dev/nbd5\"")
                .contains("\"backend\": \"nbd\"")
                .contains("\"state\": \"QUIESCED\"");
        Process second = serve(options);
        assertMountedEquals(mnt, Kind.A);
        assertThat(run("umount", mnt.toString()).status).isZero();
        second.destroyForcibly().waitFor();
        assertThat(run("erofs-ublk", "purge")).isEqualTo(new Outcome(0, "/dev/nbd5\n", ""));
    }

    /** Serves {@link Kind#A} and waits until the device's path is printed. */
    private Process serve(List<String> options) throws Exception {
        List<String> command = new ArrayList<>(List.of("erofs-ublk", "nbd"));
        command.addAll(Kind.A.sourceOptions());
        command.addAll(options);
        Process server = new ProcessBuilder(command)
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        BufferedReader out = server.inputReader();
        assertThat(out.readLine()).startsWith("/dev/nbd");
        return server;
    }

    private static void assertMountedEquals(Path mnt, Kind kind) throws Exception {
        Files.writeString(Path.of("/proc/sys/vm/drop_caches"), "3");
        Map<String, String> mounted = TreeSnapshot.of(mnt);
        Map<String, String> source = TreeSnapshot.of(kind.tree());
        mounted.remove("/"); // mkfs.erofs gives the root a mode of its own
        source.remove("/");
        assertThat(mounted).isEqualTo(source);
    }

    private Path mount(String device) throws Exception {
        Path mnt = Files.createDirectories(dir.resolve("mnt"));
        Outcome outcome = run("mount", "-t", "erofs", "-o", "ro", device, mnt.toString());
        assertThat(outcome.status).as(outcome.err).isZero();
        return mnt;
    }

    private static Outcome erofsUblk(String command, Kind kind, String... more) throws Exception {
        List<String> words = new ArrayList<>(List.of("erofs-ublk", command));
        words.addAll(kind.sourceOptions());
        words.addAll(Arrays.asList(more));
        return run(words.toArray(String[]::new));
    }

    private static Outcome run(String... command) throws Exception {
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

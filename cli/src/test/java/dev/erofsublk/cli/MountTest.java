// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.erofsublk.composer.TestImages.Kind;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The program as its users have it: the command, a real kernel, a mount. */
@Tag("kernel")
@Timeout(300)
class MountTest {
    @TempDir
    private Path dir;

    private record Outcome(int status, String out, String err) {}

    @AfterEach
    void nothingIsLeftBehind() throws Exception {
        run("umount", dir.resolve("mnt").toString());
        run("erofs-ublk", "del", "--all");
        assertThat(blockDevices()).isEmpty();
    }

    @ParameterizedTest
    @EnumSource
    void mountedTreeEqualsItsSource(Kind kind) throws Exception {
        // fs/erofs/sysfs.c lists what the kernel can mount; the device is right all the same (DeviceTest)
        assumeTrue(
                kind != Kind.C48 || Files.exists(Path.of("/sys/fs/erofs/features/48bit")),
                "EROFS of this kernel has no 48-bit addresses");
        String device = add(kind.sourceOptions());
        assertThat(device).matches("/dev/ublkb\\d+");
        Path mnt = mount(device);
        Map<String, String> mounted = TreeSnapshot.of(mnt);
        Map<String, String> source = TreeSnapshot.of(kind.tree());
        // mkfs.erofs gives the root of a merged image a mode of its own, which a loop mount of the concatenation shows
        // too
        mounted.remove("/");
        source.remove("/");
        assertThat(mounted).isEqualTo(source);
        assertThat(attributes(mnt)).isEqualTo(attributes(kind.tree()));
    }

    /** All extended attributes, those included that Java's view does not show. */
    private String attributes(Path root) throws Exception {
        Outcome outcome = run("sh", "-c", "cd \"$0\" && getfattr -R -P -h -d -m - . | sort", root.toString());
        assertThat(outcome.status).isZero();
        assertThat(outcome.out).contains("trusted.note").contains("user.layer");
        return outcome.out;
    }

    @Test
    void listShowsTheDeviceInTheColumnsOfTheOtherTools() throws Exception {
        String device = add(Kind.B.sourceOptions(), "-n", "3", "-d", "32");
        assertThat(device).isEqualTo("/dev/ublkb3");
        Outcome text = run("erofs-ublk", "list");
        assertThat(text.out)
                .as("list")
                .startsWith("dev id 3: nr_hw_queues 1 queue_depth 32 block size 4096 dev_capacity ");
        List<String> first = Arrays.asList(text.out.lines().toList().get(0).split(" "));
        List<String> second =
                Arrays.asList(text.out.lines().toList().get(1).strip().split(" "));
        assertThat(first.subList(0, 3)).containsExactly("dev", "id", "3:");
        assertThat(second.get(10))
                .as("state, as the kernel's test scripts read it")
                .isEqualTo("LIVE");
        assertThat(Path.of("/proc", second.get(6))).as("the server").exists();
        Outcome json = run("erofs-ublk", "list", "--json", "-n", "3");
        assertThat(json.out).contains("\"device\": \"/dev/ublkb3\"").contains("\"depth\": 32");
    }

    @Test
    void aSmallerBlockSizeCanBeAskedForAndALargerCannot() throws Exception {
        String device = add(Kind.B.sourceOptions(), "--block-size", "512");
        assertThat(Files.readString(Path.of("/sys/block", device.substring(5), "queue/logical_block_size"))
                        .strip())
                .isEqualTo("512");
        mount(device);
        Outcome larger = addOutcome(Kind.A.sourceOptions(), "--block-size", "4096");
        assertThat(larger.status).isEqualTo(1);
        assertThat(larger.err).contains("block size is 4096, expected a power of two from 512 to 512, the image's own");
    }

    @Test
    void aMountedDeviceIsNotDeletedUnlessForced() throws Exception {
        String device = add(Kind.B.sourceOptions());
        Path mnt = mount(device);
        Outcome refused = run("erofs-ublk", "del", "-n", device.replaceAll("\\D+", ""));
        assertThat(refused.status).isEqualTo(1);
        assertThat(refused.err).contains(device + " is mounted on " + mnt);
        assertThat(TreeSnapshot.of(mnt)).hasSizeGreaterThan(100);
    }

    @Test
    void anIdInUseIsNamed() throws Exception {
        add(Kind.B.sourceOptions(), "-n", "5");
        Outcome second = addOutcome(Kind.B.sourceOptions(), "-n", "5");
        assertThat(second.status).isEqualTo(1);
        assertThat(second.out).isEmpty();
        assertThat(second.err.lines().toList())
                .containsExactly("erofs-ublk: device id 5 is already in use (see 'erofs-ublk list')");
        assertThat(blockDevices()).containsExactly("ublkb5");
    }

    @Test
    void aRefusedImageLeavesNoDevice() throws Exception {
        Path meta = Files.copy(Kind.B.meta(), dir.resolve("meta"));
        byte[] bytes = Files.readAllBytes(meta);
        bytes[1100] ^= 1;
        Files.write(meta, bytes);
        Outcome outcome = addOutcome(List.of("--image", meta.toString()));
        assertThat(outcome.status).isEqualTo(1);
        assertThat(outcome.err.lines()).hasSize(1);
        assertThat(outcome.err).contains("superblock.checksum is");
        assertThat(blockDevices()).isEmpty();
    }

    /** One that mounts, and of which one file would read wrong. */
    @Test
    void aDeviceAppearsOnlyIfEveryChunkIsInPlace() throws Exception {
        Outcome outcome = addOutcome(BrokenImage.write(dir));
        assertThat(outcome.status).isEqualTo(1);
        assertThat(outcome.out).isEmpty();
        assertThat(outcome.err.lines()).hasSize(1);
        assertThat(outcome.err).contains(BrokenImage.WHAT);
        assertThat(blockDevices()).isEmpty();
    }

    /** The tail of the device is the tree of the export, and after a crash of the server still is. */
    @Test
    void aDeviceWithATreeIsTheExportWithOne() throws Exception {
        Path export = dir.resolve("export");
        List<String> command = new ArrayList<>(List.of("erofs-ublk", "export"));
        command.addAll(Kind.B.sourceOptions());
        command.addAll(List.of("--raw", export.toString(), "--verity", "--salt", "00ff"));
        Outcome exported = run(command.toArray(String[]::new));
        assertThat(exported.status).as(exported.err).isZero();

        Outcome added = addOutcome(Kind.B.sourceOptions(), "--verity", "--salt", "00ff");
        String device = added.out.strip();
        assertThat(device).matches("/dev/ublkb\\d+");
        assertThat(added.err.replace(device, "DEVICE")).isEqualTo(exported.out.replace(export.toString(), "DEVICE"));
        assertThat(run("cmp", device, export.toString()).status).isZero();
        mount(device);

        String listed = run("erofs-ublk", "list").out;
        String server =
                List.of(listed.lines().toList().get(1).strip().split(" ")).get(6);
        assertThat(run("kill", "-9", server).status).isZero();
        Outcome recovered = run("erofs-ublk", "recover", "--all");
        assertThat(recovered.status).as(recovered.err).isZero();
        assertThat(run("cmp", device, export.toString()).status).isZero();
    }

    @Test
    void foregroundServesUntilItIsTerminated() throws Exception {
        List<String> command = new ArrayList<>(List.of("erofs-ublk", "add", "--foreground"));
        command.addAll(Kind.C.sourceOptions());
        Process server = new ProcessBuilder(command)
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        String device = server.inputReader().readLine();
        assertThat(device).startsWith("/dev/ublkb");
        assertThat(run("cmp", device, Kind.C.raw().toString()).status).isZero();
        assertThat(server.isAlive()).isTrue();
        server.destroy();
        server.waitFor();
        assertThat(blockDevices()).isEmpty();
    }

    @Test
    void deletingWhatIsNotThereSaysSo() throws Exception {
        Outcome outcome = run("erofs-ublk", "del", "-n", "77");
        assertThat(outcome.status).isEqualTo(1);
        assertThat(outcome.err).isEqualTo("erofs-ublk: there is no ublk device 77\n");
    }

    @Test
    void everyFeatureOfTheKernelHasAName() throws Exception {
        Outcome outcome = run("erofs-ublk", "features");
        assertThat(outcome.status).isZero();
        assertThat(outcome.out).contains("CMD_IOCTL_ENCODE").doesNotContain("not known");
    }

    @Test
    void aPlainUserIsToldToRunAsRoot() throws Exception {
        Outcome outcome = run("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "erofs-ublk", "list");
        assertThat(outcome.status).isEqualTo(1);
        assertThat(outcome.err)
                .isEqualTo("erofs-ublk: /dev/ublk-control may not be opened by user id 1000: run as root\n");
    }

    private String add(List<String> source, String... more) throws Exception {
        Outcome outcome = addOutcome(source, more);
        assertThat(outcome.err).isEmpty();
        assertThat(outcome.status).isZero();
        assertThat(outcome.out.lines()).as("lines on stdout").hasSize(1);
        return outcome.out.strip();
    }

    private Outcome addOutcome(List<String> source, String... more) throws Exception {
        List<String> command = new ArrayList<>(List.of("erofs-ublk", "add"));
        command.addAll(source);
        command.addAll(List.of(more));
        return run(command.toArray(String[]::new));
    }

    private Path mount(String device) throws Exception {
        Path mnt = Files.createDirectories(dir.resolve("mnt"));
        Outcome outcome = run("mount", "-t", "erofs", "-o", "ro", device, mnt.toString());
        assertThat(outcome.status).as(outcome.err).isZero();
        return mnt;
    }

    private static List<String> blockDevices() throws IOException {
        try (Stream<Path> devices = Files.list(Path.of("/sys/block"))) {
            return devices.map(device -> device.getFileName().toString())
                    .filter(name -> name.startsWith("ublkb"))
                    .toList();
        }
    }

    private static Outcome run(String... command) throws Exception {
        Path err = Files.createTempFile("err", null);
        try {
            Process process =
                    new ProcessBuilder(command).redirectError(err.toFile()).start();
            String out = new String(process.getInputStream().readAllBytes());
            int status = process.waitFor();
            return new Outcome(status, out, Files.readString(err));
        } finally {
            Files.delete(err);
        }
    }
}

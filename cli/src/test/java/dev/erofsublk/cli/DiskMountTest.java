// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.vhd.VhdFiles;
import dev.erofsublk.composer.vhdx.VhdxFiles;
import dev.erofsublk.composer.vmdk.VmdkFiles;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.SortedMap;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Disk images and encoded blobs over ublk, mounted by the kernel: the file systems in them, and every file right. */
@Tag("kernel")
@Timeout(300)
class DiskMountTest {
    private static final Path SAMPLES =
            Path.of(System.getenv().getOrDefault("EROFS_UBLK_TEST_SAMPLES", "../../shared/samples"));

    @TempDir
    private Path dir;

    @AfterEach
    void nothingIsLeftBehind() throws Exception {
        tryRun("umount", dir.resolve("mnt").toString());
        tryRun("erofs-ublk", "del", "--all");
    }

    @Test
    void everyKindOfDiskIsTheFileSystemInIt() throws Exception {
        Path raw = Kind.PLAIN.raw();
        Path stream = dir.resolve("stream.vmdk");
        run("erofs-ublk", "export", "--image", raw.toString(), "--format", "erofs", "--vmdk", stream.toString());
        List<Path> disks = List.of(
                VmdkFiles.sparse(raw, dir.resolve("sparse.vmdk")),
                stream,
                VhdxFiles.dirty(raw, dir.resolve("dirty.vhdx")),
                VhdFiles.differencing(raw, dir.resolve("child.vhd")));
        SortedMap<String, String> source = TreeSnapshot.of(Kind.PLAIN.tree());
        source.remove("/"); // mkfs.erofs may give it another time
        for (Path disk : disks) {
            String device = add("--image", disk.toString());
            assertThat(run("cmp", device, raw.toString())).as("%s", disk).isEmpty();
            Path mnt = mount(device);
            SortedMap<String, String> mounted = TreeSnapshot.of(mnt);
            mounted.remove("/");
            assertThat(mounted).as("%s", disk).isEqualTo(source);
            run("umount", mnt.toString());
        }
    }

    /** Made by Nydus, decoded while the kernel reads. */
    @Test
    void theFilesOfARafsImageAreRight() throws Exception {
        Path bootstrap = SAMPLES.resolve("rafs/rafs-v6-2.2.boot");
        assumeTrue(Files.exists(bootstrap), "not run: there is no " + bootstrap.toAbsolutePath());
        Path mnt = mount(add(
                "--image", bootstrap.toString(), "--cache", dir.resolve("cache").toString(), "--verify"));
        assertThat(sha256(mnt.resolve("lib.rs"))).startsWith("1810eba8");
        assertThat(sha256(mnt.resolve("sync_io.rs"))).startsWith("e629ab26");
    }

    private static String sha256(Path file) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        return HexFormat.of().formatHex(digest.digest(Files.readAllBytes(file)));
    }

    private String add(String... source) throws Exception {
        List<String> command = new ArrayList<>(List.of("erofs-ublk", "add"));
        command.addAll(List.of(source));
        String device = run(command.toArray(String[]::new)).strip();
        assertThat(device).matches("/dev/ublkb\\d+");
        return device;
    }

    private Path mount(String device) throws Exception {
        Path mnt = Files.createDirectories(dir.resolve("mnt"));
        assertThat(run("mount", "-t", "erofs", "-o", "ro", device, mnt.toString()))
                .isEmpty();
        return mnt;
    }

    private record Outcome(int status, String out) {}

    /** What it printed. */
    private String run(String... command) throws Exception {
        Outcome outcome = tryRun(command);
        assertThat(outcome.status)
                .as("%s: %s%s", String.join(" ", command), outcome.out, Files.readString(dir.resolve("err")))
                .isZero();
        return outcome.out;
    }

    /** Its stderr goes to a file, since a daemon that the command becomes keeps it open. */
    private Outcome tryRun(String... command) throws Exception {
        Process process = new ProcessBuilder(command)
                .redirectError(ProcessBuilder.Redirect.to(dir.resolve("err").toFile()))
                .start();
        String out = new String(process.getInputStream().readAllBytes());
        return new Outcome(process.waitFor(), out);
    }
}

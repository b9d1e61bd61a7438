// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The files of packaging/, judged by those whom they are for. */
class PackagingTest {
    private static final Path PACKAGING = Path.of("../packaging");

    @TempDir
    private Path dir;

    /** JDK 25 does not compare a cache with the jar: it runs the classes of the cache, which may be of an older build. */
    @Test
    void aStartUpCacheThatIsOlderThanTheProgramIsNotUsed() throws Exception {
        Path bin = Files.createDirectory(dir.resolve("bin"));
        Path start =
                Files.copy(Path.of("../bin/erofs-ublk"), bin.resolve("erofs-ublk"), StandardCopyOption.COPY_ATTRIBUTES);
        script(bin.resolve("find-java"), "echo " + dir);
        script(bin.resolve("java"), "echo \"$@\"");
        Path lib = Files.createDirectory(dir.resolve("lib"));
        Path jar = Files.createFile(lib.resolve("erofs-ublk.jar"));
        Path cache = Files.createFile(lib.resolve("erofs-ublk.aot"));
        FileTime built = FileTime.fromMillis(1_700_000_000_000L);
        Files.setLastModifiedTime(jar, built);
        Files.setLastModifiedTime(cache, built);
        assertThat(output(start, "list")).contains("-XX:AOTCache=" + cache);
        Files.setLastModifiedTime(jar, FileTime.fromMillis(built.toMillis() + 1));
        assertThat(output(start, "list"))
                .contains("-cp " + jar + " dev.erofsublk.cli.Main list")
                .doesNotContain("AOTCache");
    }

    private static void script(Path file, String command) throws IOException {
        Files.writeString(file, "#!/bin/sh\n" + command + "\n");
        Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
    }

    private static String output(Path program, String argument) throws IOException {
        Process process = new ProcessBuilder(program.toString(), argument)
                .redirectError(ProcessBuilder.Redirect.INHERIT)
                .start();
        return new String(process.getInputStream().readAllBytes());
    }

    @Test
    void systemdFindsNothingWrongWithTheUnit() throws Exception {
        assumeTrue(
                Files.isExecutable(Path.of("/usr/bin/systemd-analyze")),
                "there is no systemd-analyze on this machine to judge the unit");
        String unit = Files.readString(PACKAGING.resolve("erofs-ublk@.service"));
        assertThat(unit).contains("ExecStart=/usr/bin/erofs-ublk serve --standby\n");
        // it is not installed here
        Path program = Files.copy(Path.of("/bin/true"), dir.resolve("erofs-ublk"), StandardCopyOption.COPY_ATTRIBUTES);
        Path instance = Files.writeString(
                dir.resolve("erofs-ublk@1.service"), unit.replace("/usr/bin/erofs-ublk ", program + " "));
        Process verify = new ProcessBuilder("systemd-analyze", "verify", instance.toString())
                .redirectErrorStream(true)
                .start();
        assertThat(new String(verify.getInputStream().readAllBytes())).isEmpty();
        assertThat(verify.waitFor()).isZero();
    }
}

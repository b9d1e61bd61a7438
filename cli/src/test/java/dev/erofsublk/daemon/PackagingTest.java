// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The files of packaging/, judged by those whom they are for. */
class PackagingTest {
    private static final Path PACKAGING = Path.of("../packaging");

    @TempDir
    private Path dir;

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

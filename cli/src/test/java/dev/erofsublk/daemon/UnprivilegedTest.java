// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.Feature;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Devices of a plain user (UBLK_F_UNPRIVILEGED_DEV). This test plays udev with the rules of packaging/. */
@Tag("kernel")
@Timeout(300)
class UnprivilegedTest {
    private static final int USER = 1000;
    private static final int OTHER = 1001;

    @TempDir
    private Path dir;

    private Set<PosixFilePermission> controlMode;
    private volatile boolean ended;
    private Thread udev;

    @BeforeEach
    void giveNodesToTheirUser() throws Exception {
        try (ControlDevice control = ControlDevice.open()) {
            assumeTrue(
                    Feature.UNPRIVILEGED_DEV.in(control.features()),
                    "this kernel has no UBLK_F_UNPRIVILEGED_DEV (Linux 6.3)");
        }
        controlMode = Files.getPosixFilePermissions(ControlDevice.PATH);
        Files.setPosixFilePermissions(ControlDevice.PATH, PosixFilePermissions.fromString("rw-rw-rw-"));
        Files.setPosixFilePermissions(dir, PosixFilePermissions.fromString("rwxrwxrwx"));
        udev = Thread.ofPlatform().name("udev").start(this::chown);
    }

    private void chown() {
        Map<Integer, Integer> owners = new HashMap<>();
        while (!ended) {
            try {
                List<Integer> ids = ControlDevice.ids();
                owners.keySet().retainAll(ids);
                for (int id : ids) {
                    Integer owner = owners.get(id);
                    if (owner == null) {
                        Outcome asked = as(0, "erofs-ublk", "owner", "-n", Integer.toString(id));
                        owner = Integer.valueOf(asked.out.substring(0, asked.out.indexOf(' ')));
                        owners.put(id, owner);
                    }
                    for (String node : List.of("/dev/ublkc" + id, "/dev/ublkb" + id)) {
                        if (Files.exists(Path.of(node))) {
                            Files.setAttribute(Path.of(node), "unix:uid", owner);
                        }
                    }
                }
                Thread.sleep(10);
            } catch (IOException e) {
                // it has gone meanwhile
            } catch (InterruptedException e) {
                return;
            }
        }
    }

    @AfterEach
    void takeThemBack() throws Exception {
        ended = true;
        if (udev != null) {
            udev.join();
            Files.setPosixFilePermissions(ControlDevice.PATH, controlMode);
        }
        try (ControlDevice control = ControlDevice.open()) {
            for (int id : ControlDevice.ids()) {
                control.stop(id);
                control.deleteSoon(id);
            }
        }
    }

    private record Outcome(int status, String out) {}

    private Outcome as(int user, String... words) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(
                List.of("setpriv", "--reuid=" + user, "--regid=" + user, "--clear-groups", "--inh-caps=-all"));
        command.addAll(List.of(words));
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().put("EROFS_UBLK_RUN", dir.resolve("run" + user).toString());
        Process process = builder.start();
        String out = new String(process.getInputStream().readAllBytes());
        return new Outcome(process.waitFor(), out);
    }

    @Test
    void aPlainUserAddsReadsListsAndDeletesAndAnotherMayNot() throws Exception {
        Path image = Files.write(dir.resolve("image"), new byte[1 << 20]);
        Outcome add = as(USER, "erofs-ublk", "add", "--unprivileged", "--image", image.toString());
        assertThat(add.out).matches("/dev/ublkb\\d+\n");
        assertThat(add.status).isZero();
        String device = add.out.strip();
        String id = device.substring("/dev/ublkb".length());
        assertThat(as(USER, "cmp", device, image.toString()).status).isZero();
        assertThat(as(OTHER, "cmp", device, image.toString()).out).contains("Permission denied");
        assertThat(as(OTHER, "erofs-ublk", "del", "--force", "-n", id).status).isEqualTo(1);
        assertThat(as(USER, "cmp", device, image.toString()).status).isZero();
        assertThat(as(USER, "erofs-ublk", "list", "-n", id).out).contains("state LIVE");
        Outcome deleted = as(USER, "erofs-ublk", "del", "-n", id);
        assertThat(deleted.out).isEmpty();
        assertThat(deleted.status).isZero();
        Callable<Boolean> gone = () -> ControlDevice.ids().isEmpty();
        VerifiedReader.await(gone);
    }
}

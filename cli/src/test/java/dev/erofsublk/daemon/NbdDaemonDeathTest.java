// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

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

    private Daemons daemons;

    @BeforeEach
    void create() throws Exception {
        daemons = new Daemons(dir);
    }

    @AfterEach
    void end() throws Exception {
        daemons.end();
        for (NbdInfo device : NbdInfo.all()) {
            NbdDevice.disconnect(device.index());
        }
        if (KILLS < 10) {
            daemons.printLogs();
        }
    }

    @Test
    void killedDaemonsAreOnlyAPauseForReadersOfNbdDevices() throws Exception {
        daemons.serve();
        List<VerifiedReader> readers = new ArrayList<>();
        for (Kind kind : KINDS) {
            readers.add(new VerifiedReader(add(kind), Files.readAllBytes(kind.raw())));
        }
        assertThat(daemons.state().ids()).extracting(DeviceId::backend).containsOnly(Backend.NBD);
        List<Long> pauses = new ArrayList<>();
        for (int kill = 0; kill < KILLS; kill++) {
            boolean standby = kill % 2 == 1;
            if (standby) {
                daemons.standBy(KINDS.size());
            }
            pauses.add(daemons.replaced(readers, pid -> {
                Daemons.kill(pid);
                if (!standby) {
                    daemons.start();
                }
            }));
            System.out.printf("kill %d (%s): %d ms%n", kill + 1, standby ? "stand-by" : "restart", pauses.getLast());
        }
        if (KILLS > 2) {
            daemons.replaced(readers, pid -> daemons.start("--takeover"));
        }
        for (VerifiedReader reader : readers) {
            reader.assertWell();
        }
        System.out.printf(
                "NbdDaemonDeathTest: kills survived %d, errors 0, wrong bytes 0, %d verified reads, kill to answer %s ms%n",
                KILLS, readers.stream().mapToLong(VerifiedReader::reads).sum(), pauses);
        daemons.call(new JsonObject().put("command", "del").put("all", true));
        assertThat(NbdInfo.all()).isEmpty();
        assertThat(daemons.state().ids()).isEmpty();
    }

    private String add(Kind kind) throws IOException {
        ImageSource source = new ImageSource(null, kind.meta(), kind.blobs(), null, null, List.of(), null);
        return daemons.call(new JsonObject()
                        .put("command", "add")
                        .put("backend", "nbd")
                        .put("queues", 2)
                        .put("timeout", 2)
                        .put("dead_timeout", 3600) // even if the host has the guest stand still meanwhile
                        .put("source", new SourceSpec(source).toJson()))
                .string("device");
    }
}

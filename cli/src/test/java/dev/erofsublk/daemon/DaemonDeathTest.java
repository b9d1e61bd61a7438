// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static dev.erofsublk.daemon.VerifiedReader.await;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.source.ImageSource;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DataPath;
import dev.erofsublk.ublk.Feature;
import dev.erofsublk.uring.Linux;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
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

    private Daemons daemons;

    @BeforeEach
    void create() throws Exception {
        daemons = new Daemons(dir);
    }

    @AfterEach
    void end() throws Exception {
        daemons.end();
        try (ControlDevice control = ControlDevice.open()) {
            for (int id : ControlDevice.ids()) {
                control.stop(id);
                control.deleteSoon(id);
            }
        }
        daemons.printLogs();
    }

    @Test
    void killedAndReplacedDaemonsAreOnlyAPauseForTheirReaders() throws Exception {
        boolean zeroCopy;
        try (ControlDevice control = ControlDevice.open()) {
            zeroCopy = Feature.AUTO_BUF_REG.in(control.features());
        }
        daemons.serve("--standby");
        List<VerifiedReader> readers = new ArrayList<>();
        for (Kind kind : KINDS) {
            List<Path> blobs = kind.blobs();
            SourceSpec source = new SourceSpec(new ImageSource(null, kind.meta(), blobs, null, null, List.of(), null));
            JsonObject add = new JsonObject()
                    .put("command", "add")
                    .put("source", source.toJson())
                    .put("data_path", kind == Kind.B && zeroCopy ? "zero-copy" : "auto");
            readers.add(new VerifiedReader(daemons.call(add).string("device"), Files.readAllBytes(kind.raw())));
        }
        List<Long> pauses = new ArrayList<>();
        for (int kill = 0; kill < KILLS; kill++) {
            daemons.standBy(KINDS.size());
            pauses.add(daemons.replaced(readers, Daemons::kill));
            System.out.printf(
                    "DaemonDeathTest: kill %d of %d, answered after %d ms%n", kill + 1, KILLS, pauses.getLast());
        }
        long upgrade = daemons.replaced(readers, pid -> daemons.start("--takeover"));
        for (VerifiedReader reader : readers) {
            reader.assertWell();
        }
        System.out.printf(
                "DaemonDeathTest: kills survived %d, errors 0, wrong bytes 0, %d verified reads, kill to answer %s ms,"
                        + " upgrade with JVM start %d ms%n",
                KILLS, readers.stream().mapToLong(VerifiedReader::reads).sum(), pauses, upgrade);
        // 0.5 s is for a machine of one's own: this one may have many guests at once
        assertThat(pauses).allMatch(pause -> pause < 30_000);
        try (ControlDevice control = ControlDevice.open()) {
            for (int i = 0; i < KINDS.size(); i++) {
                assertThat(control.find(i).orElseThrow().dataPath())
                        .isEqualTo(KINDS.get(i) == Kind.B && zeroCopy ? DataPath.ZERO_COPY : DataPath.DIRECT);
            }
        }
        daemons.call(new JsonObject().put("command", "del").put("all", true));
        await(() -> ControlDevice.ids().isEmpty()); // the kernel forgets a device when its last user has left
        assertThat(daemons.state().ids()).isEmpty();
    }

    @Test
    void aDeviceWhoseSourceHasChangedIsNotTakenOver() throws Exception {
        Path image = Files.copy(Kind.PLAIN.meta(), dir.resolve("image"));
        daemons.serve();
        JsonObject add = new JsonObject()
                .put("command", "add")
                .put("source", new SourceSpec(ImageSource.ofFile(image)).toJson());
        String device = daemons.call(add).string("device");
        int id = DeviceId.parse(device).orElseThrow().number();
        // and while it is in use, it is not deleted, and the answer names the user
        int fd = Linux.open(device, Linux.O_RDONLY);
        assertThatThrownBy(() ->
                        daemons.call(new JsonObject().put("command", "del").put("id", id)))
                .hasMessageContaining(
                        "open in process " + ProcessHandle.current().pid());
        Linux.close(fd);
        Daemons.kill(daemons.pid());
        Files.setLastModifiedTime(image, FileTime.fromMillis(1));
        daemons.serve();
        assertThatThrownBy(() ->
                        daemons.call(new JsonObject().put("command", "recover").put("id", id)))
                .hasMessageContaining("its source has changed: " + image + " was modified");
        assertThat(Purge.run(daemons.state(), false)).containsExactly(device);
        await(() -> !ControlDevice.ids().contains(id));
    }
}

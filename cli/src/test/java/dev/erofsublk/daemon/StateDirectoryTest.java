// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.source.ImageSource;
import dev.erofsublk.composer.verity.Salt;
import dev.erofsublk.ublk.DataPath;
import dev.erofsublk.ublk.DeviceOptions;
import dev.erofsublk.ublk.Recovery;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StateDirectoryTest {
    @TempDir
    private Path dir;

    private StateDirectory state;
    private Path root;

    @BeforeEach
    void create() throws Exception {
        root = dir.resolve("run");
        state = StateDirectory.at(root);
        state.create();
    }

    private static DeviceRecord record(int number) {
        return record(new DeviceId(Backend.UBLK, number));
    }

    private static DeviceRecord record(DeviceId id) {
        return new DeviceRecord(
                id.number(),
                DeviceRecord.newToken(),
                new DeviceSpec(
                        new SourceSpec(new ImageSource(
                                null,
                                Path.of("/i/m"),
                                List.of(Path.of("/i/a"), Path.of("/i/\u00e9\n\"b")),
                                null,
                                null,
                                List.of(Path.of("/allowed")),
                                Path.of("/cache"),
                                new Salt("00ff"))),
                        id.backend(),
                        DeviceOptions.ANY_ID,
                        2,
                        id.backend() == Backend.NBD ? 128 : 64,
                        512,
                        Recovery.FAIL_IO,
                        false,
                        id.backend() == Backend.NBD ? DataPath.AUTO : DataPath.DIRECT,
                        id.backend() == Backend.NBD ? 0 : 50,
                        true,
                        7,
                        70,
                        new TraceFiles(Path.of("/t/\u00e9"), Path.of("/t/before"))),
                1 << 20,
                "erofs",
                "00112233",
                List.of(new FileIdentity("/i/m", 1L << 40, 2, 3, 4), new FileIdentity("/i/a", 5, 6, 7, 8)));
    }

    @Test
    void whatIsWrittenIsReadAgain() throws Exception {
        DeviceRecord record = record(3);
        state.write(record);
        assertThat(state.read(DeviceId.ublk(3))).contains(record);
        assertThat(state.ids()).containsExactly(DeviceId.ublk(3));
        state.remove(DeviceId.ublk(3));
        assertThat(state.read(DeviceId.ublk(3))).isEmpty();
        assertThat(state.ids()).isEmpty();
    }

    @Test
    void aNumberMayBeThatOfTwoDevices() throws Exception {
        DeviceRecord nbd = record(DeviceId.nbd(3));
        state.write(record(3));
        state.write(nbd);
        assertThat(state.ids()).containsExactlyInAnyOrder(DeviceId.ublk(3), DeviceId.nbd(3));
        assertThat(state.read(DeviceId.nbd(3))).contains(nbd);
        Files.move(root.resolve("devices/nbd3.json"), root.resolve("devices/nbd4.json"));
        assertThatThrownBy(() -> state.read(DeviceId.nbd(4)))
                .hasMessage(root.resolve("devices/nbd4.json") + ": the record is of /dev/nbd3, expected /dev/nbd4");
    }

    @Test
    void aRecordFromBeforeThereWereBackendsIsOfUblk() throws Exception {
        DeviceRecord record = record(3);
        state.write(record);
        Path file = root.resolve("devices/3.json");
        Files.writeString(file, Files.readString(file).replace("\"backend\":\"ublk\",", ""));
        assertThat(Files.readString(file)).doesNotContain("backend");
        assertThat(state.read(DeviceId.ublk(3))).contains(record);
    }

    @Test
    void everythingIsPrivate() throws Exception {
        state.write(record(0));
        assertThat(mode(root)).isEqualTo("rwx------");
        assertThat(mode(root.resolve("devices"))).isEqualTo("rwx------");
        assertThat(mode(root.resolve("devices/0.json"))).isEqualTo("rw-------");
    }

    private static String mode(Path path) throws Exception {
        return PosixFilePermissions.toString(Files.getPosixFilePermissions(path));
    }

    @Test
    void aHalfWrittenRecordIsNoneAndDoesNotStayInTheWay() throws Exception {
        Files.writeString(root.resolve("devices/4.json.new"), "{\"version\":1,");
        assertThat(state.ids()).isEmpty();
        state.write(record(4));
        assertThat(state.ids()).containsExactly(DeviceId.ublk(4));
        assertThat(root.resolve("devices/4.json.new")).doesNotExist();
    }

    @Test
    void aDamagedRecordIsRefusedWithItsFileAndField() throws Exception {
        Random random = new Random(1);
        state.write(record(5));
        Path file = root.resolve("devices/5.json");
        String whole = Files.readString(file);
        for (int i = 0; i < 2000; i++) {
            StringBuilder text = new StringBuilder(whole);
            int at = random.nextInt(text.length());
            if (random.nextBoolean()) {
                text.setLength(at);
            } else {
                text.setCharAt(at, (char) (32 + random.nextInt(90)));
            }
            Files.writeString(file, text);
            try {
                state.read(DeviceId.ublk(5));
            } catch (DaemonException e) {
                assertThat(e).hasMessageContaining(file.toString());
            }
        }
        Files.writeString(file, whole.replace("\"version\":1", "\"version\":2"));
        assertThatThrownBy(() -> state.read(DeviceId.ublk(5)))
                .hasMessage(file + ": field \"version\" is 2, expected 1 to 1");
    }

    @Test
    void theLockIsForOne() throws Exception {
        StateDirectory.Lock lock = state.tryLock().orElseThrow();
        assertThat(state.tryLock()).isEmpty();
        lock.close();
        Optional<StateDirectory.Lock> again = state.tryLock();
        assertThat(again).isPresent();
        again.get().close();
    }

    @Test
    void aTakeOverIsAnotherLivingProcesses() throws Exception {
        assertThat(state.isTakeoverOfAnother()).isFalse();
        state.announceTakeover();
        assertThat(state.isTakeoverOfAnother()).as("our own").isFalse();
        Files.writeString(root.resolve("takeover"), "1");
        assertThat(state.isTakeoverOfAnother()).isTrue();
        Files.writeString(root.resolve("takeover"), "999999999");
        assertThat(state.isTakeoverOfAnother()).as("a dead one's").isFalse();
        state.endTakeover();
        assertThat(root.resolve("takeover")).doesNotExist();
    }

    @Test
    void tokensAreOursAndEachIsNew() {
        assertThat(DeviceRecord.isOurs(DeviceRecord.newToken())).isTrue();
        assertThat(DeviceRecord.isOurs(0)).isFalse();
        assertThat(DeviceRecord.isOurs(-1)).isFalse();
        assertThat(DeviceRecord.newToken()).isNotEqualTo(DeviceRecord.newToken());
    }

    @Test
    void aChangedFileIsToldApart() {
        FileIdentity was = new FileIdentity("/x", 1, 2, 3, 4);
        assertThat(was.difference(was)).isEmpty();
        assertThat(was.difference(new FileIdentity("/y", 1, 2, 3, 4))).contains("/y takes the place of /x");
        assertThat(was.difference(new FileIdentity("/x", 1, 9, 3, 4)))
                .contains("/x is another file (inode 9, expected 2)");
        assertThat(was.difference(new FileIdentity("/x", 1, 2, 9, 4))).contains("/x has 9 bytes, expected 3");
        assertThat(was.difference(new FileIdentity("/x", 1, 2, 3, 9)))
                .contains("/x was modified (mtime 9 ns, expected 4 ns)");
    }
}

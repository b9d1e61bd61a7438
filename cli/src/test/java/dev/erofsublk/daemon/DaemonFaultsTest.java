// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static dev.erofsublk.daemon.VerifiedReader.await;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.source.ImageSource;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DataPath;
import dev.erofsublk.ublk.DeviceOptions;
import dev.erofsublk.ublk.Recovery;
import dev.erofsublk.uring.Linux;
import io.prometheus.metrics.expositionformats.ExpositionFormats;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileStore;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What goes wrong around a daemon, which is in this process here, and what becomes of its devices. */
@Tag("kernel")
@Timeout(300)
class DaemonFaultsTest {
    private static final int BYTES = 1 << 20;

    @TempDir
    private Path dir;

    private final List<VerifiedReader> readers = new ArrayList<>();
    private StateDirectory state;
    private Daemon daemon;

    @BeforeEach
    void start() throws Exception {
        state = StateDirectory.at(dir.resolve("run"));
        state.create();
        daemon = new Daemon(state, AllowedPaths.of(List.of()), false);
        Log.to(dir.resolve("log"));
        BlobMonitor.start(daemon);
    }

    @AfterEach
    void end() throws Exception {
        for (VerifiedReader reader : readers) {
            reader.close();
        }
        daemon.deleteAll();
        assertThat(state.ids()).isEmpty();
        Files.readAllLines(dir.resolve("log")).forEach(System.out::println);
    }

    private Path file(String name, int seed) throws IOException {
        return Files.write(dir.resolve(name), content(seed));
    }

    private static byte[] content(int seed) {
        byte[] content = new byte[BYTES];
        new Random(seed).nextBytes(content);
        return content;
    }

    private ServedDevice add(Path image) throws IOException {
        SourceSpec source = new SourceSpec(ImageSource.ofFile(image));
        return daemon.add(new DeviceSpec(
                source,
                Backend.UBLK,
                DeviceOptions.ANY_ID,
                1,
                16,
                0,
                Recovery.REISSUE,
                false,
                DataPath.AUTO,
                0,
                false,
                DeviceSpec.DEFAULT_TIMEOUT,
                DeviceSpec.DEFAULT_DEAD_TIMEOUT,
                TraceFiles.NONE));
    }

    private VerifiedReader reader(ServedDevice device, int seed) throws IOException {
        VerifiedReader reader = new VerifiedReader(device.path(), content(seed));
        readers.add(reader);
        return reader;
    }

    private void awaitLog(String text) throws Exception {
        await(() -> Files.readString(dir.resolve("log")).contains(text));
    }

    @Test
    void ofATruncatedBlobOnlyTheMissingBytesFailAtOnceAndTheLogNamesIt() throws Exception {
        Path file = file("cut", 1);
        ServedDevice cut = add(file);
        VerifiedReader other = reader(add(file("whole", 2)), 2);
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
            channel.truncate(BYTES / 2);
        }
        MemorySegment wanted = MemorySegment.ofArray(content(1));
        int fd = Linux.open(cut.path(), Linux.O_RDONLY | Linux.O_DIRECT);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(64 << 10, 4096);
            // once before the daemon can know, and once when it does
            for (int round = 0; round < 2; round++) {
                for (int at = BYTES / 2; at < BYTES; at += BYTES / 16) {
                    int missing = at;
                    assertThatThrownBy(() -> Linux.read(fd, target, missing)).hasMessageContaining("EIO");
                }
                for (int at = 0; at < BYTES / 2; at += 64 << 10) {
                    assertThat(Linux.read(fd, target, at)).isEqualTo(64 << 10);
                    assertThat(target.mismatch(wanted.asSlice(at, 64 << 10))).isEqualTo(-1);
                }
                awaitLog("cut was truncated to 524288 bytes, expected 1048576: reads of the rest fail");
            }
        } finally {
            Linux.close(fd);
        }
        awaitLog("the last at byte ");
        assertThat(cut.counters().errors()).isPositive();
        other.assertWell();
    }

    @Test
    void aBlobThatIsReplacedOrRemovedIsServedOnAndTheLogNamesIt() throws Exception {
        Path replaced = file("replaced", 3);
        Path removed = file("removed", 4);
        VerifiedReader first = reader(add(replaced), 3);
        VerifiedReader second = reader(add(removed), 4);
        Files.move(file("another", 5), replaced, StandardCopyOption.REPLACE_EXISTING);
        Files.delete(removed);
        awaitLog("replaced was replaced; the old one is served from its open descriptor");
        awaitLog("removed was removed; it is served from its open descriptor");
        first.awaitMore(2 * BYTES / (64 << 10));
        first.assertWell();
        second.awaitMore(2 * BYTES / (64 << 10));
        second.assertWell();
    }

    @Test
    void withoutSpaceForItsRecordADeviceIsRefusedAndTheOthersGoOn() throws Exception {
        Path run = Files.createDirectories(dir.resolve("small"));
        assertThat(new ProcessBuilder("mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", run.toString())
                        .inheritIO()
                        .start()
                        .waitFor())
                .isZero();
        state = StateDirectory.at(run);
        state.create();
        daemon = new Daemon(state, AllowedPaths.of(List.of()), false);
        try {
            VerifiedReader reader = reader(add(file("first", 6)), 6);
            FileStore store = Files.getFileStore(run);
            Path filler = Files.write(run.resolve("filler"), new byte[(int) store.getUsableSpace()]);
            Path second = file("second", 7);
            assertThatThrownBy(() -> add(second))
                    .isInstanceOf(DaemonException.class)
                    .hasMessageContaining("cannot write " + run + "/devices/")
                    .hasMessageContaining("No space left on device");
            await(() -> ControlDevice.ids().size() == 1); // what had been begun is gone
            assertThat(state.ids()).hasSize(1);
            Files.delete(filler);
            reader(add(second), 7).assertWell();
            reader.assertWell();
            daemon.deleteAll();
        } finally {
            new ProcessBuilder("umount", "-l", run.toString())
                    .inheritIO()
                    .start()
                    .waitFor();
            state = StateDirectory.at(dir.resolve("run"));
        }
    }

    @Test
    void metricsAreThoseOfTheKernelsOwnCount() throws Exception {
        ServedDevice device = add(file("counted", 8));
        String name = device.path().substring("/dev/".length());
        int fd = Linux.open("/dev/" + name, Linux.O_RDONLY | Linux.O_DIRECT);
        await(() -> settled(device));
        Map<String, Double> before = scrape();
        long kernelBefore = kernelReads(name);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(64 << 10, 4096);
            for (int at = 0; at < BYTES; at += 64 << 10) {
                Linux.read(fd, target, at);
            }
        }
        Linux.close(fd);
        await(() -> settled(device));
        Map<String, Double> after = scrape();
        String label = "{device=\"" + name + "\"}";
        assertThat(grown("erofs_ublk_device_requests_total" + label, before, after))
                .isEqualTo(kernelReads(name) - kernelBefore)
                .isGreaterThanOrEqualTo(BYTES >> 16);
        assertThat(grown("erofs_ublk_device_read_bytes_total" + label, before, after))
                .isGreaterThanOrEqualTo(BYTES);
        assertThat(after)
                .containsEntry("erofs_ublk_device_errors_total" + label, 0.0)
                .containsEntry("erofs_ublk_device_size_bytes" + label, (double) BYTES)
                .containsEntry("erofs_ublk_device_resident_bytes" + label, (double) BYTES)
                .containsEntry("erofs_ublk_device_state{device=\"" + name + "\",erofs_ublk_device_state=\"LIVE\"}", 1.0)
                .containsEntry("erofs_ublk_takeovers_total", 0.0);
    }

    /** Whether two looks see the same: the counts of a turn come a moment after its answers. */
    private static boolean settled(ServedDevice device) throws InterruptedException {
        long requests = device.counters().requests();
        Thread.sleep(100);
        return device.counters().requests() == requests;
    }

    /** Field 1 of the kernel's Documentation/block/stat.rst: reads that were completed. */
    private static long kernelReads(String name) throws IOException {
        return Long.parseLong(
                Files.readString(Path.of("/sys/block", name, "stat")).strip().split("\\s+")[0]);
    }

    private static double grown(String name, Map<String, Double> before, Map<String, Double> after) {
        assertThat(after).containsKey(name);
        return after.get(name) - before.get(name);
    }

    private Map<String, Double> scrape() throws IOException {
        ByteArrayOutputStream text = new ByteArrayOutputStream();
        ExpositionFormats.init().getPrometheusTextFormatWriter().write(text, Metrics.of(daemon));
        return MetricsTest.parse(text.toString(StandardCharsets.UTF_8));
    }
}

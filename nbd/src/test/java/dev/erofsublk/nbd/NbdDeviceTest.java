// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The kernel's nbd driver; needs root, and the module nbd. */
@Tag("kernel")
@Timeout(300)
class NbdDeviceTest {
    @TempDir
    Path directory;

    private final List<String> log = Collections.synchronizedList(new ArrayList<>());
    private TestImage image;

    @BeforeEach
    void open() throws IOException {
        image = TestImage.file(directory, 8 << 20);
    }

    @AfterEach
    void close() {
        image.close();
        assertThat(log).noneMatch(line -> line.contains("defect"));
    }

    private static NbdDevice.Options options(int connections) {
        return new NbdDevice.Options(
                connections, 0, Duration.ofSeconds(5), Duration.ofSeconds(60), "sha256:test", false);
    }

    private NbdDevice attach(int connections) throws IOException {
        return NbdDevice.attach(-1, image.export(""), options(connections), log::add);
    }

    /** Reads past the page cache. */
    private static byte[] read(Path device, long offset, int length) throws IOException {
        int fd = Linux.open(device.toString(), Linux.O_RDONLY | Linux.O_DIRECT);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(length, 4096);
            assertThat(Linux.read(fd, target, offset)).isEqualTo(length);
            return target.toArray(JAVA_BYTE);
        } finally {
            Linux.close(fd);
        }
    }

    private static String sys(NbdDevice device, String attribute) throws IOException {
        return Files.readString(Path.of("/sys/block/nbd" + device.index(), attribute))
                .strip();
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 4})
    void theDeviceHasTheImagesBytesAndIsReadOnly(int connections) throws Exception {
        NbdDevice device = attach(connections);
        assertThat(device.connectionCount()).isEqualTo(connections);
        assertThat(read(device.path(), 0, image.content.length)).isEqualTo(image.content);
        assertThat(sys(device, "size")).isEqualTo("" + image.content.length / 512);
        assertThat(sys(device, "ro")).isEqualTo("1");
        assertThat(sys(device, "queue/logical_block_size")).isEqualTo("4096");
        assertThat(sys(device, "backend")).isEqualTo("sha256:test");
        assertThat(sys(device, "queue/scheduler")).contains("[none]");
        assertThat(NbdDevice.connected()).contains(device.index());
        device.detach();
        assertThat(NbdDevice.connected()).doesNotContain(device.index());
        assertThat(device.isDisconnected()).isTrue();
        assertThat(log).isEmpty();
    }

    @Test
    void holesAndUnalignedPiecesAreServedInSectors() throws Exception {
        Path other = Files.createDirectory(directory.resolve("layers"));
        try (TestImage layers = TestImage.layers(other)) {
            NbdDevice device = NbdDevice.attach(-1, layers.export(""), options(2), log::add);
            int length = layers.content.length / 4096 * 4096;
            assertThat(sys(device, "queue/logical_block_size")).isEqualTo("512");
            assertThat(read(device.path(), 0, length)).isEqualTo(Arrays.copyOf(layers.content, length));
            device.detach();
        }
    }

    @Test
    void aDeviceInUseIsNeitherGivenAwayNorDisconnected() throws Exception {
        NbdDevice device = attach(1);
        assertThatThrownBy(() -> NbdDevice.attach(device.index(), image.export(""), options(1), log::add))
                .isInstanceOf(LinuxException.class)
                .hasMessageContaining("EBUSY");
        int claim = Linux.open(device.path().toString(), Linux.O_RDONLY | Linux.O_EXCL);
        assertThatThrownBy(device::detach).isInstanceOf(IOException.class).hasMessageContaining("in use");
        assertThat(read(device.path(), 0, 4096)).isEqualTo(Arrays.copyOf(image.content, 4096));
        Linux.close(claim);
        device.detach();
        assertThatThrownBy(() -> NbdDevice.reattach(device.index(), image.export(""), options(1), log::add))
                .isInstanceOf(LinuxException.class);
    }

    @Test
    void aMountedDeviceIsNotDisconnected() throws Exception {
        Tool.assume("mke2fs", "mount", "umount");
        Path mountPoint = Files.createDirectory(directory.resolve("mnt"));
        Tool.run("mke2fs", "-q", "-F", "-b", "4096", "-t", "ext2", "-d", "/etc/default", image.file);
        NbdDevice device = attach(2);
        Tool.run("mount", "-r", device.path(), mountPoint);
        assertThatThrownBy(device::detach)
                .isInstanceOf(IOException.class)
                .hasMessageContaining("mounted at " + mountPoint);
        Tool.run("diff", "-r", "/etc/default", mountPoint, "-x", "lost+found");
        Tool.run("umount", mountPoint);
        device.detach();
    }

    @Test
    void readersNoticeNothingWhenTheServerIsReplaced() throws Exception {
        NbdDevice device = attach(2);
        Path path = device.path();
        boolean[] stop = new boolean[1];
        CompletableFuture<Integer> reader = CompletableFuture.supplyAsync(() -> {
            Random random = new Random(1);
            for (int reads = 0; ; reads++) {
                synchronized (stop) {
                    if (stop[0]) {
                        return reads;
                    }
                }
                int offset = random.nextInt(image.content.length / 4096 - 16) * 4096;
                try {
                    assertThat(read(path, offset, 65536))
                            .isEqualTo(Arrays.copyOfRange(image.content, offset, offset + 65536));
                } catch (IOException e) {
                    throw new IllegalStateException(e);
                }
            }
        });
        for (int round = 0; round < 5; round++) {
            Thread.sleep(300);
            device.close(); // as if it had died
            Thread.sleep(200);
            device = NbdDevice.reattach(device.index(), image.export(""), options(2), log::add);
        }
        synchronized (stop) {
            stop[0] = true;
        }
        assertThat(reader.get()).isPositive();
        device.detach();
    }

    @Test
    void aServerOfSomethingElseMayNotTakeOver() throws Exception {
        NbdDevice device = attach(1);
        device.close();
        NbdDevice.Options wrong =
                new NbdDevice.Options(1, 0, Duration.ZERO, Duration.ofSeconds(60), "sha256:other", false);
        assertThatThrownBy(() -> NbdDevice.reattach(device.index(), image.export(""), wrong, log::add))
                .isInstanceOf(LinuxException.class)
                .hasMessageContaining("EINVAL");
        NbdDevice right = NbdDevice.reattach(device.index(), image.export(""), options(1), log::add);
        assertThat(read(right.path(), 0, 1 << 20)).isEqualTo(Arrays.copyOf(image.content, 1 << 20));
        right.detach();
    }

    @Test
    void missingBytesAreErrorsOfTheirRequestsOnly() throws Exception {
        NbdDevice device = attach(1);
        assertThat(read(device.path(), 0, image.content.length)).isEqualTo(image.content);
        try (RandomAccessFile file = new RandomAccessFile(image.file.toFile(), "rw")) {
            file.setLength(4 << 20);
        }
        for (int length : new int[] {4096, 65536, 1 << 20}) {
            assertThatThrownBy(() -> read(device.path(), 6 << 20, length))
                    .isInstanceOf(LinuxException.class)
                    .hasMessageContaining("EIO");
            assertThat(read(device.path(), 0, length)).isEqualTo(Arrays.copyOf(image.content, length));
        }
        device.detach();
        assertThat(log).isEmpty();
    }

    @Test
    void aDisconnectByAnotherProgramIsNoticed() throws Exception {
        Tool.assume("nbd-client");
        NbdDevice device = attach(2);
        Tool.run("nbd-client", "-d", device.path());
        while (!device.isDisconnected() || device.connectionCount() > 0) {
            Thread.sleep(10);
        }
        device.detach();
        assertThat(log).isEmpty();
    }

    @Test
    void nbdClientConnectsToTheServer() throws Exception {
        Tool.assume("nbd-client");
        try (NbdServer server = new NbdServer(image.exports(), Limits.DEFAULT, null, log::add)) {
            server.listen(directory.resolve("s"));
            NbdDevice probe = attach(1); // for an index that is free
            probe.detach();
            Tool.run("nbd-client", "-unix", directory.resolve("s"), "-N", "disk", "-C", "2", probe.path());
            assertThat(read(probe.path(), 0, image.content.length)).isEqualTo(image.content);
            Tool.run("nbd-client", "-d", probe.path());
        }
    }
}

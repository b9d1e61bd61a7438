// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Devices whose reads the kernel fills from the files themselves. */
@Tag("kernel")
@Timeout(300)
class ZeroCopyTest {
    private static final int MAX_READ = 1 << 20;
    private static final Duration PATIENCE = Duration.ofSeconds(10);

    @TempDir
    private Path dir;

    private final List<AutoCloseable> opened = new ArrayList<>();
    private ControlDevice control;

    @BeforeEach
    void open() throws IOException {
        control = ControlDevice.open();
    }

    @AfterEach
    void close() throws Exception {
        for (int i = opened.size(); i-- > 0; ) {
            opened.get(i).close();
        }
        for (int tries = 0; !ControlDevice.ids().isEmpty(); tries++) {
            assertThat(tries).as("tries of 10 ms").isLessThan(6000);
            Thread.sleep(10);
        }
        control.close();
    }

    private void assumeOffered() throws IOException {
        assumeTrue(
                DataPath.ZERO_COPY.isOffered(control.features()),
                "this kernel has no UBLK_F_AUTO_BUF_REG (Linux 6.16): no zero copy to test");
    }

    private <T extends AutoCloseable> T opened(T resource) {
        opened.add(resource);
        return resource;
    }

    private static DeviceOptions options(int queues, int depth, int blockSize, boolean unprivileged) {
        return new DeviceOptions(
                DeviceOptions.ANY_ID,
                queues,
                depth,
                blockSize,
                DeviceOptions.DEFAULT_MAX_IO_BYTES,
                Recovery.REISSUE,
                1,
                unprivileged,
                DataPath.ZERO_COPY);
    }

    private Device serve(FlatImage flat, int queues, int depth) throws IOException {
        AddressSpace space = opened(AddressSpace.map(flat));
        Device device = opened(Device.start(control, space, options(queues, depth, flat.blockSize(), false)));
        assertThat(device.info().dataPath()).isEqualTo(DataPath.ZERO_COPY);
        return device;
    }

    private Blob blob(String name, int bytes) throws IOException {
        return Blob.open(Files.write(dir.resolve(name), random(bytes)));
    }

    /** Two files, a hole, repaired bytes, and borders so close to each other that a read has more parts than a chain. */
    private FlatImage mixed() throws IOException {
        Blob first = blob("first", 3 << 20);
        Blob second = blob("second", 1 << 20);
        FlatImage.Builder builder = FlatImage.builder(512)
                .append(512, new Bytes("repaired", random(512)), 0)
                .append((1 << 20) - 512, first, 512)
                .zeros(3 << 18)
                .append(1 << 20, second, 0)
                .zeros(512);
        for (int i = 0; i < 200; i++) {
            builder.append(512 * (1 + i % 3), i % 2 == 0 ? first : second, (i * 4099L) % (1 << 19));
            if (i % 5 == 0) {
                builder.zeros(1024);
            }
        }
        return opened(builder.append(2 << 20, first, 1 << 20).build());
    }

    private static byte[] random(int bytes) {
        byte[] content = new byte[bytes];
        new Random(bytes).nextBytes(content);
        return content;
    }

    @Test
    void randomReadsEqualTheImageAcrossFilesHolesAndBytesInMemory() throws Exception {
        assumeOffered();
        long seed = System.nanoTime();
        System.out.println("ZeroCopyTest seed " + seed);
        FlatImage flat = mixed();
        Device device = serve(flat, 2, 8);
        Random random = new Random(seed);
        for (int flag : new int[] {Linux.O_DIRECT, 0}) {
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment served = arena.allocate(MAX_READ, 4096);
                MemorySegment expected = arena.allocate(MAX_READ, 4096);
                for (int i = 0; i < 300; i++) {
                    int length = Math.min(MAX_READ, (512 << random.nextInt(12)) + 512 * random.nextInt(8));
                    long offset = random.nextLong(flat.size() / 512) * 512;
                    length = (int) Math.min(length, flat.size() - offset);
                    MemorySegment got = served.asSlice(0, length);
                    got.fill((byte) 0x5a);
                    assertThat(readOnce(device, flag, got, offset)).isEqualTo(length);
                    flat.read(offset, expected.asSlice(0, length));
                    assertThat(got.mismatch(expected.asSlice(0, length)))
                            .as("seed %d, flag %o, read of %d at %d", seed, flag, length, offset)
                            .isEqualTo(-1);
                }
            }
        }
        assertThat(device.counters().requests()).isGreaterThanOrEqualTo(600);
        assertThat(device.counters().errors()).isZero();
    }

    /** With the device open for this only: the last close takes its page cache along, which would answer some reads. */
    private static int readOnce(Device device, int flag, MemorySegment target, long offset) throws IOException {
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | flag);
        try {
            return (int) Linux.read(fd, target, offset);
        } finally {
            Linux.close(fd);
        }
    }

    @Test
    void onlyTheMissingBytesOfATruncatedBlobAreErrors() throws Exception {
        assumeOffered();
        Blob whole = blob("whole", 1 << 20);
        Blob cut = blob("cut", 1 << 20);
        FlatImage flat = opened(FlatImage.builder(512)
                .append(1 << 20, whole, 0)
                .append(1 << 20, cut, 0)
                .append(4096, whole, 0)
                .build());
        Device device = serve(flat, 1, 16);
        int writable = Linux.open(cut.name(), Linux.O_RDWR);
        Linux.truncate(writable, (512 << 10) + 700);
        Linux.close(writable);
        long end = (1 << 20) + (512 << 10) + 512; // the last sector that is whole
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(1 << 20, 4096);
            MemorySegment expected = arena.allocate(1 << 20, 4096);
            for (long offset : new long[] {0, (1 << 20) - 4096, end - 512, end - (64 << 10)}) {
                int length = (int) Math.min(64 << 10, end - offset);
                assertThat(Linux.read(fd, target.asSlice(0, length), offset)).isEqualTo(length);
                flat.read(offset, expected.asSlice(0, length));
                assertThat(target.asSlice(0, length).mismatch(expected.asSlice(0, length)))
                        .as("offset %d", offset)
                        .isEqualTo(-1);
            }
            for (long offset : new long[] {end, end + 4096, (2 << 20) - 512, end - 8192}) {
                assertThatThrownBy(() -> readWhole(fd, target.asSlice(0, 16 << 10), offset))
                        .isInstanceOf(LinuxException.class)
                        .extracting(e -> ((LinuxException) e).errno())
                        .isEqualTo(Errno.EIO);
            }
            assertThat(Linux.read(fd, target.asSlice(0, 4096), 2 << 20)).isEqualTo(4096);
        } finally {
            Linux.close(fd);
        }
        assertThat(device.counters().errors()).isGreaterThanOrEqualTo(4);
        assertThat(device.counters().lastErrorOffset()).isBetween(end, 2L << 20);
    }

    /** The kernel may hand over what came before an error: asked for the rest, it says it. */
    private static void readWhole(int fd, MemorySegment target, long offset) throws LinuxException {
        assertThat(Linux.read(fd, target, offset)).isEqualTo(target.byteSize());
    }

    @Test
    void writesThatReachTheServerAreErrorsAndHangNothing() throws Exception {
        assumeOffered();
        FlatImage flat = opened(
                FlatImage.builder(512).append(1 << 20, blob("file", 1 << 20), 0).build());
        AddressSpace space = opened(AddressSpace.map(flat));
        Device device = opened(Device.start(control, space, options(1, 4, 512, false), false));
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDWR | Linux.O_DIRECT);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment sector = arena.allocate(4096, 4096);
            MemorySegment expected = arena.allocate(4096, 4096);
            for (int i = 0; i < 20; i++) {
                assertThatThrownBy(() -> Linux.write(fd, sector, 0))
                        .isInstanceOf(LinuxException.class)
                        .extracting(e -> ((LinuxException) e).errno())
                        .isEqualTo(Errno.EIO);
                assertThat(Linux.read(fd, expected, i * 4096L)).isEqualTo(4096);
            }
            flat.read(0, expected);
            assertThat(Linux.read(fd, sector, 0)).isEqualTo(4096);
            assertThat(sector.mismatch(expected)).isEqualTo(-1);
        } finally {
            Linux.close(fd);
        }
    }

    @Test
    void readersSeeOnlyPausesWhileTheirServerChanges() throws Exception {
        assumeOffered();
        FlatImage flat = mixed();
        AddressSpace space = opened(AddressSpace.map(flat));
        Device device = Device.start(control, space, options(2, 16, 512, false));
        Path path = Path.of(device.info().blockPath());
        byte[] expected = new byte[(int) flat.size()];
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment all = arena.allocate(flat.size(), 4096);
            flat.read(0, all);
            MemorySegment.ofArray(expected).copyFrom(all);
        }
        Path image = Files.write(dir.resolve("image"), expected);
        Process reader = new ProcessBuilder(
                        "bash",
                        "-c",
                        "n=0; until [ -e \"$2\" ]; do cmp <(dd if=\"$0\" bs=256k iflag=direct status=none) \"$1\" || exit 1;"
                                + " n=$((n + 1)); echo $n > \"$3\"; done",
                        path.toString(),
                        image.toString(),
                        dir.resolve("stop").toString(),
                        dir.resolve("count").toString())
                .inheritIO()
                .start();
        for (int round = 0; round < 8; round++) {
            device.release();
            device = Device.recover(control, space, device.info().id(), PATIENCE);
            assertThat(device.info().dataPath()).isEqualTo(DataPath.ZERO_COPY);
            awaitAnotherRound();
        }
        Files.write(dir.resolve("stop"), new byte[0]);
        assertThat(reader.waitFor(60, TimeUnit.SECONDS)).isTrue();
        assertThat(reader.exitValue()).isZero();
        device.close();
    }

    private void awaitAnotherRound() throws Exception {
        Path count = dir.resolve("count");
        String before = Files.exists(count) ? Files.readString(count) : "";
        for (int tries = 0; !Files.exists(count) || Files.readString(count).equals(before); tries++) {
            assertThat(tries).as("tries of 10 ms").isLessThan(6000);
            Thread.sleep(10);
        }
    }

    @Test
    void servingAllocatesNothing() throws Exception {
        assumeOffered();
        Device device = serve(
                opened(FlatImage.builder(4096)
                        .append(8 << 20, blob("file", 8 << 20), 0)
                        .zeros(8 << 20)
                        .build()),
                1,
                64);
        new QueueAllocation(device).assertNoneForRequests(200_000);
        assertThat(device.counters().samples()).isPositive();
    }

    @Test
    void anUnprivilegedDeviceOrAKernelWithoutItIsRefusedInWords() throws Exception {
        FlatImage flat = opened(
                FlatImage.builder(512).append(4096, blob("file", 4096), 0).build());
        AddressSpace space = opened(AddressSpace.map(flat));
        boolean offered = DataPath.ZERO_COPY.isOffered(control.features());
        assertThatThrownBy(() -> Device.start(control, space, options(1, 4, 512, true)))
                .isInstanceOf(DataPathException.class)
                .hasMessage(
                        offered
                                ? "data path zero-copy: the kernel does not let an unprivileged device have it"
                                : "data path zero-copy: this kernel does not offer UBLK_F_AUTO_BUF_REG (Linux 6.16 or"
                                        + " newer does); the data path direct needs nothing");
        assertThat(ControlDevice.ids()).isEmpty();
    }
}

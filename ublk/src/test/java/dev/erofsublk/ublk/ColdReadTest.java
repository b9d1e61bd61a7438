// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Residency;
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
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Devices over a disk (null_blk with memory of its own) of which nothing is in the page cache, and which takes its time. */
@Tag("kernel")
@Timeout(300)
class ColdReadTest {
    private static final int UNIT = Residency.UNIT_BYTES;
    private static final int BYTES = 32 << 20;
    private static final int SECTOR = 512;

    private final byte[] content = new byte[BYTES];
    private final List<AutoCloseable> opened = new ArrayList<>();
    private final Path settings = Path.of("/sys/kernel/config/nullb/erofs-ublk-test");
    private ControlDevice control;
    private Path disk;

    @BeforeEach
    void open() throws Exception {
        control = ControlDevice.open();
        new Random(1).nextBytes(content);
        Files.createDirectory(settings);
        set("size", BYTES >> 20);
        set("memory_backed", 1);
        set("blocksize", SECTOR);
        set("hw_queue_depth", 128);
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
        Files.deleteIfExists(settings);
    }

    private void set(String setting, Object value) throws IOException {
        Files.writeString(settings.resolve(setting), value.toString());
    }

    /** From now on the disk is there, and answers each request after {@code latency}. */
    private void power(Duration latency) throws IOException {
        if (!latency.isZero()) {
            set("irqmode", 2); // a timer's
            set("completion_nsec", latency.toNanos());
        }
        set("power", 1);
        Path named = Path.of("/dev/erofs-ublk-test");
        disk = Files.exists(named)
                ? named
                : Path.of("/dev/nullb"
                        + Files.readString(settings.resolve("index")).strip()); // older kernels
        int fd = Linux.open(disk.toString(), Linux.O_RDWR | Linux.O_DIRECT);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment aligned = arena.allocate(BYTES, 4096).copyFrom(MemorySegment.ofArray(content));
            Linux.write(fd, aligned, 0);
        } finally {
            Linux.close(fd);
        }
    }

    private Device serve(DataPath path) throws IOException {
        FlatImage flat = opened(FlatImage.builder(4096)
                .append(BYTES, opened(Blob.open(disk)), 0)
                .build());
        AddressSpace space = opened(AddressSpace.map(flat));
        DeviceOptions options = new DeviceOptions(
                DeviceOptions.ANY_ID, 1, 64, 4096, DeviceOptions.DEFAULT_MAX_IO_BYTES, Recovery.NONE, 0, false, path);
        Device device = opened(Device.start(control, space, options));
        read(device, 0, UNIT); // where the kernel has looked for a partition table as the device was opened
        return device;
    }

    private <T extends AutoCloseable> T opened(T resource) {
        opened.add(resource);
        return resource;
    }

    /** Requests that the disk has read, and sectors. */
    private long[] disk() throws IOException {
        String[] fields = Files.readString(
                        Path.of("/sys/block", disk.getFileName().toString(), "stat"))
                .strip()
                .split(" +");
        return new long[] {Long.parseLong(fields[0]), Long.parseLong(fields[2])};
    }

    /** Reads past the page cache and compares. */
    private void read(Device device, long offset, int bytes) throws IOException {
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment found = arena.allocate(bytes, 4096);
            assertThat(Linux.read(fd, found, offset)).isEqualTo(bytes);
            assertThat(found.mismatch(MemorySegment.ofArray(content).asSlice(offset, bytes)))
                    .as("read of %d at %d", bytes, offset)
                    .isEqualTo(-1);
        } finally {
            Linux.close(fd);
        }
    }

    private long sectorsReadBy(Callable<?> what) throws Exception {
        long before = disk()[1];
        what.call();
        return disk()[1] - before;
    }

    private Callable<?> reading(Device device, long offset, int bytes) {
        return () -> {
            read(device, offset, bytes);
            return null;
        };
    }

    @Test
    void aReadHereAndThereTakesNoMoreFromTheDiskThanItWants() throws Exception {
        power(Duration.ZERO);
        Device device = serve(DataPath.DIRECT);
        for (int unit = 401; unit > 101; unit -= 50) {
            assertThat(sectorsReadBy(reading(device, (long) unit * UNIT + 8192, 4096)))
                    .as("sectors for 4 KiB of unit %d", unit)
                    .isEqualTo(8);
        }
    }

    @Test
    void whoReadsBesideWhatIsThereHasAllOfItsUnitAndFindsItAtOnce() throws Exception {
        power(Duration.ZERO);
        Device device = serve(DataPath.DIRECT);
        long unit = 301L * UNIT;
        read(device, unit + 8192, 4096);
        assertThat(sectorsReadBy(reading(device, unit + 12288, 4096))).isEqualTo((UNIT - 4096) / SECTOR);
        long cold = device.counters().coldReads();
        assertThat(sectorsReadBy(reading(device, unit, UNIT))).isZero();
        assertThat(device.counters().coldReads()).isEqualTo(cold);
    }

    @Test
    void whoReadsTheSameAgainHasTheRestBroughtInMeanwhile() throws Exception {
        power(Duration.ZERO);
        Device device = serve(DataPath.DIRECT);
        long unit = 301L * UNIT;
        read(device, unit + 8192, 4096);
        long cold = device.counters().coldReads();
        long before = disk()[1];
        read(device, unit + 8192, 4096);
        for (int tries = 0; disk()[1] - before < (UNIT - 4096) / SECTOR; tries++) {
            assertThat(tries).as("tries of 10 ms").isLessThan(6000);
            Thread.sleep(10);
        }
        assertThat(sectorsReadBy(reading(device, unit, UNIT))).isZero();
        assertThat(device.counters().coldReads()).isEqualTo(cold);
    }

    @Test
    void manyColdReadsWaitForTheDiskAtTheSameTime() throws Exception {
        Duration latency = Duration.ofSeconds(1);
        power(latency);
        Device device = serve(DataPath.DIRECT);
        int reads = 32;
        long start = System.nanoTime();
        try (ExecutorService readers = Executors.newFixedThreadPool(reads)) {
            List<Future<?>> all = new ArrayList<>();
            for (int i = 0; i < reads; i++) {
                all.add(readers.submit(reading(device, (long) (i * 13 + 11) * UNIT, 4096)));
            }
            for (Future<?> one : all) {
                one.get();
            }
        }
        assertThat(Duration.ofNanos(System.nanoTime() - start))
                .as("with eight at a time it would be 4 times the latency")
                .isBetween(latency, latency.multipliedBy(3));
    }

    @Test
    void aReaderThatGoesForwardFindsWhatItReads() throws Exception {
        power(Duration.ofMillis(1));
        Device device = serve(DataPath.DIRECT);
        int bytes = 2 * UNIT;
        long cold = device.counters().coldReads();
        long[] before = disk();
        for (int i = 0; i < 64; i++) {
            read(device, (8 << 20) + (long) i * bytes, bytes);
            Thread.sleep(5); // what somebody does with it
        }
        assertThat(device.counters().coldReads() - cold).as("cold reads of 64").isLessThan(12);
        assertThat((disk()[1] - before[1]) * SECTOR)
                .as("bytes from the disk")
                .isBetween(64L * bytes, 64L * bytes + (3 << 20));
    }

    @Test
    void randomReadsEqualTheDisk() throws Exception {
        power(Duration.ofNanos(200_000));
        long seed = System.nanoTime();
        System.out.println("ColdReadTest seed " + seed);
        Random random = new Random(seed);
        Device device = serve(DataPath.DIRECT);
        try (ExecutorService readers = Executors.newFixedThreadPool(8)) {
            List<Future<?>> all = new ArrayList<>();
            for (int i = 0; i < 400; i++) {
                int bytes = random.nextInt(4) == 0 ? 4096 * (1 + random.nextInt(300)) : 4096;
                long offset = random.nextLong((BYTES - bytes) / 4096) * 4096;
                all.add(readers.submit(reading(device, offset, bytes)));
            }
            for (Future<?> one : all) {
                one.get();
            }
        }
        assertThat(device.counters().errors()).isZero();
    }

    @Test
    void aBadSectorFailsTheReadsThatWantItAndNoOthers() throws Exception {
        power(Duration.ZERO);
        long unit = 201L * UNIT;
        long bad = (unit + 20480) / SECTOR;
        set("badblocks", "+" + bad + "-" + (bad + 7));
        Device device = serve(DataPath.DIRECT);
        for (int round = 0; round < 2; round++) {
            read(device, unit + 4096, 4096);
            read(device, unit + 8192, 4096);
            assertThatThrownBy(() -> read(device, unit + 20480, 4096))
                    .isInstanceOfSatisfying(
                            LinuxException.class, e -> assertThat(e.errno()).isEqualTo(Errno.EIO));
            read(device, unit + 24576, 4096);
        }
        read(device, unit + UNIT, UNIT);
    }

    @Test
    void zeroCopyReadsADiskPastThePageCache() throws Exception {
        assumeTrue(
                DataPath.ZERO_COPY.isOffered(control.features()),
                "this kernel has no UBLK_F_AUTO_BUF_REG (Linux 6.16): no zero copy to test");
        power(Duration.ZERO);
        Device device = serve(DataPath.ZERO_COPY);
        for (int round = 0; round < 2; round++) {
            assertThat(sectorsReadBy(reading(device, 301L * UNIT, 8192)))
                    .as("sectors, nothing being cached")
                    .isEqualTo(16);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
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
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Devices that outlive their server. The server "dies" by letting go of its device, which the kernel cannot tell from a
 * process that ends; that of real processes is in the tests of the daemon.
 */
@Tag("kernel")
@Timeout(240)
class RecoveryTest {
    private static final Duration PATIENCE = Duration.ofSeconds(10);
    private static final Duration NONE = Duration.ofMillis(100);
    private static final int BYTES = 4 << 20;

    @TempDir
    private Path dir;

    private final List<AutoCloseable> opened = new ArrayList<>();
    private ControlDevice control;

    @BeforeEach
    void open(TestInfo test) throws IOException {
        System.out.println("RecoveryTest: " + test.getDisplayName()); // a kernel that hangs leaves nothing else
        control = ControlDevice.open();
    }

    @AfterEach
    void close() throws Exception {
        for (int i = opened.size(); i-- > 0; ) {
            opened.get(i).close();
        }
        for (int id : ControlDevice.ids()) {
            control.stop(id);
            control.deleteSoon(id); // a test that failed may have it open, which would be waited for
        }
        control.close();
    }

    @Test
    void aReaderOfFourDevicesSeesOnlyPausesWhileTheirServerChangesTwentyTimes() throws Exception {
        List<AddressSpace> spaces = new ArrayList<>();
        List<Device> devices = new ArrayList<>();
        List<Reader> readers = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            AddressSpace space = space(i);
            spaces.add(space);
            devices.add(Device.start(control, space, options(Recovery.REISSUE, 1 + i % 2)));
            readers.add(opened(new Reader(devices.get(i).info().blockPath(), content(i))));
        }
        for (int round = 0; round < 20; round++) {
            for (int i = 0; i < 4; i++) {
                Device old = devices.get(i);
                old.release();
                devices.set(i, Device.recover(control, spaces.get(i), old.info().id(), PATIENCE));
            }
            for (Reader reader : readers) {
                reader.awaitMore(3);
            }
        }
        for (Reader reader : readers) {
            reader.close();
            assertThat(reader.failure).isNull();
        }
        System.out.println("RecoveryTest: 80 take-overs, "
                + readers.stream().mapToLong(r -> r.reads).sum()
                + " verified reads, longest pause "
                + readers.stream().mapToLong(r -> r.longestMillis).max().orElse(0)
                + " ms, errors 0, wrong bytes 0");
        for (Device device : devices) {
            assertThat(state(device)).isEqualTo(DeviceState.LIVE);
            device.close();
        }
    }

    @Test
    void aReleasedDeviceIsQuiescedAndLiveAgainAfterTheTakeOver() throws Exception {
        AddressSpace space = space(1);
        Device device = Device.start(control, space, options(Recovery.REISSUE, 1));
        int id = device.info().id();
        device.release();
        await(() -> state(id) == DeviceState.QUIESCED);
        Device again = Device.recover(control, space, id, PATIENCE);
        assertThat(state(id)).isEqualTo(DeviceState.LIVE);
        assertThat(control.find(id).orElseThrow().pid()).isEqualTo(Linux.processId());
        again.close();
        await(() -> isGone(id)); // the kernel deletes it once its last holder is gone
        again.close();
        device.close();
    }

    @Test
    void theKernelKeepsTheTokenOfTheServer() throws Exception {
        Device device = Device.start(control, space(1), options(Recovery.REISSUE, 1));
        assertThat(control.find(device.info().id()).orElseThrow().token()).isEqualTo(0x1234567890abcdefL);
        device.close();
    }

    @Test
    void withoutRecoveryAReleasedDeviceEndsAndCanBeDeleted() throws Exception {
        AddressSpace space = space(1);
        Device device = Device.start(control, space, options(Recovery.NONE, 1));
        int id = device.info().id();
        device.release();
        await(() -> state(id) == DeviceState.DEAD);
        assertThatThrownBy(() -> Device.recover(control, space, id, NONE)).isInstanceOf(LinuxException.class);
        control.delete(id);
        assertThat(control.find(id)).isEmpty();
    }

    @Test
    void aDeviceThatIsServedIsNotTakenOverAndDoesNotNotice() throws Exception {
        AddressSpace space = space(1);
        Device device = Device.start(control, space, options(Recovery.REISSUE, 2));
        Reader reader = opened(new Reader(device.info().blockPath(), content(1)));
        assertThatThrownBy(() -> Device.recover(control, space, device.info().id(), NONE))
                .isInstanceOf(LinuxException.class)
                .extracting(e -> ((LinuxException) e).errno())
                .isEqualTo(Errno.EBUSY);
        reader.awaitMore(10);
        reader.close();
        assertThat(reader.failure).isNull();
        device.close();
    }

    @Test
    void aTakeOverThatIsGivenUpHalfWayLeavesTheDeviceForTheNext() throws Exception {
        AddressSpace space = space(1);
        Device device = Device.start(control, space, options(Recovery.REISSUE, 2));
        int id = device.info().id();
        device.release();
        await(() -> state(id) == DeviceState.QUIESCED);
        for (int i = 0; i < 3; i++) {
            await(() -> begins(id)); // and nothing follows, as if that process had been killed
        }
        Device.recover(control, space, id, PATIENCE).close();
    }

    /** On Linux 6.12 only the first of several beginnings succeeds; the others are answered with EINVAL. */
    private boolean begins(int id) {
        try {
            control.startRecovery(id);
            return true;
        } catch (LinuxException e) {
            return e.errno() == Errno.EINVAL;
        }
    }

    @Test
    void anImageOfAnotherSizeIsRefusedBeforeTheDeviceIsTouched() throws Exception {
        AddressSpace space = space(1);
        Device device = Device.start(control, space, options(Recovery.REISSUE, 1));
        int id = device.info().id();
        device.release();
        AddressSpace other = map(Files.write(dir.resolve("other"), new byte[8192]));
        assertThatThrownBy(() -> Device.recover(control, other, id, PATIENCE))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("size is 8192 bytes, expected " + BYTES + " bytes");
        Device.recover(control, space, id, PATIENCE).close();
    }

    @Test
    void aQuiescedDeviceIsHandedOnWithoutAnError() throws Exception {
        assumeTrue(Feature.QUIESCE.in(control.features()), "this kernel has no UBLK_F_QUIESCE (Linux 6.16)");
        AddressSpace space = space(1);
        Device device = Device.start(control, space, options(Recovery.REISSUE, 2));
        int id = device.info().id();
        Reader reader = opened(new Reader(device.info().blockPath(), content(1)));
        for (int i = 0; i < 10; i++) {
            reader.awaitMore(3);
            control.quiesce(id, 5000); // what was on its way comes back only when its queue ends, which release sees to
            device.release();
            device = Device.recover(control, space, id, PATIENCE);
        }
        reader.close();
        assertThat(reader.failure).isNull();
        device.close();
    }

    @Test
    void withFailIoReadersGetErrorsUntilTheTakeOver() throws Exception {
        assumeTrue(
                Feature.USER_RECOVERY_FAIL_IO.in(control.features()),
                "this kernel has no UBLK_F_USER_RECOVERY_FAIL_IO (Linux 6.13)");
        AddressSpace space = space(1);
        Device device = Device.start(control, space, options(Recovery.FAIL_IO, 1));
        int id = device.info().id();
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(4096, 4096);
            device.release();
            await(() -> state(id) == DeviceState.FAIL_IO);
            assertThatThrownBy(() -> Linux.read(fd, target, 0)).hasMessageContaining("EIO");
            Device again = Device.recover(control, space, id, PATIENCE);
            assertThat(Linux.read(fd, target, 0)).isEqualTo(4096);
            Linux.close(fd);
            again.close();
        }
    }

    @Test
    void aDeviceThatIsOpenIsNotStoppedByTryStop() throws Exception {
        assumeTrue(Feature.SAFE_STOP_DEV.in(control.features()), "this kernel has no UBLK_U_CMD_TRY_STOP_DEV (7.0)");
        Device device = Device.start(control, space(1), options(Recovery.REISSUE, 1));
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY);
        assertThatThrownBy(() -> control.tryStop(device.info().id()))
                .extracting(e -> ((LinuxException) e).errno())
                .isEqualTo(Errno.EBUSY);
        Linux.close(fd);
        control.tryStop(device.info().id());
        device.awaitStopped();
        device.close();
    }

    @Test
    void requestsBytesAndErrorsAreCountedAndTimed() throws Exception {
        Device device = Device.start(control, space(1), options(Recovery.NONE, 1));
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
        DeviceCounters before = device.counters();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(8192, 4096);
            for (int i = 0; i < 200; i++) {
                assertThat(Linux.read(fd, target, i * 8192L)).isEqualTo(8192);
            }
        }
        Linux.close(fd);
        await(() -> device.counters().requests() - before.requests() == 200);
        DeviceCounters after = device.counters();
        assertThat(after.bytes() - before.bytes()).isEqualTo(200 * 8192);
        assertThat(after.errors()).isZero();
        assertThat(after.lastErrorOffset()).isEqualTo(-1);
        assertThat(after.samples()).isBetween(200L / QueueCounters.SAMPLE_TURNS, 10L);
        assertThat(after.sampledNanos()).isPositive();
        device.close();
    }

    @Test
    void onASuspectedDeviceWhatIsThereIsReadAndWhatIsMissingIsCounted() throws Exception {
        Path file = Files.write(dir.resolve("truncated"), content(1));
        AddressSpace space = map(file);
        Device device = Device.start(control, space, options(Recovery.NONE, 1));
        int writable = Linux.open(file.toString(), Linux.O_RDWR);
        Linux.truncate(writable, BYTES / 2);
        Linux.close(writable);
        device.suspect(true);
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(1 << 20, 4096);
            // across the new end: what is before it is delivered, and the rest is what fails
            assertThat(Linux.read(fd, target.asSlice(0, 64 << 10), BYTES / 2 - (64 << 10)))
                    .isEqualTo(64 << 10);
            assertThatThrownBy(() -> Linux.read(fd, target, BYTES / 2 - (512 << 10)))
                    .hasMessageContaining("EIO");
            await(() -> device.counters().errors() == 1);
            assertThat(device.counters().lastErrorOffset()).isEqualTo(BYTES / 2);
            assertThatThrownBy(() -> Linux.read(fd, target.asSlice(0, 4096), BYTES - 4096))
                    .hasMessageContaining("EIO");
        }
        Linux.close(fd);
        await(() -> device.counters().errors() >= 2);
        assertThat(device.counters().lastErrorOffset()).isEqualTo(BYTES - 4096);
        device.close();
    }

    @Test
    void sixtyFourDevicesAtOnceAreEachReadAndVerified() throws Exception {
        List<Device> devices = new ArrayList<>();
        List<byte[]> contents = new ArrayList<>();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(64 << 10, 4096);
            for (int i = 0; i < 64; i++) {
                byte[] content = new byte[256 << 10];
                new Random(i).nextBytes(content);
                contents.add(content);
                AddressSpace space = map(Files.write(dir.resolve("many" + i), content));
                devices.add(Device.start(control, space, options(Recovery.REISSUE, 1)));
            }
            for (int i = 0; i < 64; i++) {
                int fd = Linux.open(devices.get(i).info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
                for (int at = 0; at < 256 << 10; at += 64 << 10) {
                    assertThat(Linux.read(fd, target, at)).isEqualTo(64 << 10);
                    assertThat(target.mismatch(
                                    MemorySegment.ofArray(contents.get(i)).asSlice(at, 64 << 10)))
                            .as("device %d at %d", i, at)
                            .isEqualTo(-1);
                }
                Linux.close(fd);
            }
        }
        for (Device device : devices) {
            device.close();
        }
        assertThat(ControlDevice.ids()).isEmpty();
    }

    /** Reads a device from end to end, again and again, past the page cache, and compares. */
    private static final class Reader implements AutoCloseable {
        private final Thread thread;
        private final byte[] expected;
        private final int fd;
        private volatile boolean stop;
        private volatile long reads;
        private volatile long longestMillis;
        private volatile Throwable failure;

        Reader(String device, byte[] expected) throws IOException {
            this.expected = expected;
            fd = Linux.open(device, Linux.O_RDONLY | Linux.O_DIRECT);
            thread = Thread.ofPlatform().name("reader").start(this::run);
        }

        private void run() {
            int length = 128 << 10;
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment target = arena.allocate(length, 4096);
                for (long at = 0; !stop; at = (at + length) % expected.length) {
                    long start = System.nanoTime();
                    assertThat(Linux.read(fd, target, at)).isEqualTo(length);
                    assertThat(target.mismatch(MemorySegment.ofArray(expected).asSlice(at, length)))
                            .isEqualTo(-1);
                    longestMillis = Math.max(longestMillis, (System.nanoTime() - start) / 1_000_000);
                    reads++;
                }
            } catch (Throwable e) {
                failure = e;
            }
        }

        void awaitMore(int n) throws InterruptedException {
            long enough = reads + n;
            await(() -> reads >= enough || failure != null);
        }

        @Override
        public void close() throws IOException {
            stop = true;
            try {
                thread.join();
            } catch (InterruptedException e) {
                throw new IOException(e);
            }
            Linux.close(fd);
        }
    }

    private DeviceState state(Device device) {
        return state(device.info().id());
    }

    private boolean isGone(int id) {
        try {
            return control.find(id).isEmpty();
        } catch (LinuxException e) {
            throw new AssertionError(e);
        }
    }

    private DeviceState state(int id) {
        try {
            return control.find(id).orElseThrow().state();
        } catch (LinuxException e) {
            throw new AssertionError(e);
        }
    }

    private static DeviceOptions options(Recovery recovery, int queues) {
        return new DeviceOptions(
                DeviceOptions.ANY_ID,
                queues,
                32,
                512,
                DeviceOptions.DEFAULT_MAX_IO_BYTES,
                recovery,
                0x1234567890abcdefL,
                false,
                DataPath.AUTO);
    }

    private static byte[] content(int seed) {
        byte[] content = new byte[BYTES];
        new Random(seed).nextBytes(content);
        return content;
    }

    private AddressSpace space(int seed) throws IOException {
        return map(Files.write(dir.resolve("file" + seed), content(seed)));
    }

    private AddressSpace map(Path file) throws IOException {
        Blob blob = Blob.open(file);
        FlatImage image =
                opened(FlatImage.builder(512).append(blob.size(), blob, 0).build());
        return opened(AddressSpace.map(image));
    }

    private <T extends AutoCloseable> T opened(T resource) {
        opened.add(resource);
        return resource;
    }

    private static void await(BooleanSupplier condition) throws InterruptedException {
        for (int tries = 0; !condition.getAsBoolean(); tries++) {
            assertThat(tries).as("tries of 10 ms").isLessThan(6000);
            Thread.sleep(10);
        }
    }
}

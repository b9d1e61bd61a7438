// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Devices that wait for a server which does not come. */
@Tag("kernel")
@Timeout(240)
class AbandonedDeviceTest {
    private static final Executor THREADS = task -> Thread.ofPlatform().daemon().start(task);

    @TempDir
    private Path dir;

    private ControlDevice control;
    private AddressSpace space;
    private Device device;

    @BeforeEach
    void start() throws Exception {
        control = ControlDevice.open();
        Blob blob = Blob.open(Files.write(dir.resolve("file"), new byte[1 << 20]));
        space = AddressSpace.map(
                FlatImage.builder(512).append(blob.size(), blob, 0).build());
        device = Device.start(
                control,
                space,
                new DeviceOptions(DeviceOptions.ANY_ID, 2, 8, 512, 1 << 20, Recovery.REISSUE, 1, false, DataPath.AUTO));
    }

    @AfterEach
    void end() throws Exception {
        for (int id : ControlDevice.ids()) {
            control.deleteSoon(id);
        }
        control.close();
        space.close();
        space.image().close();
    }

    /** What kublk's --die_during_fetch does in the kernel's test generic_17. */
    @Test
    void aServerThatDiesHalfWayThroughItsFetchesLeavesADeviceThatCanBeDeleted() throws Exception {
        int id = device.info().id();
        device.release();
        await(() -> state() == DeviceState.QUIESCED);
        await(() -> recoveryBegins(id));
        int fd = Linux.open(device.info().charPath(), Linux.O_RDWR);
        int event = Linux.event();
        int[] thread = new int[1];
        Queue[] queue = new Queue[1];
        CompletableFuture.runAsync(
                        () -> {
                            try {
                                thread[0] = Linux.threadId();
                                queue[0] = Queue.open(
                                        fd,
                                        device.info(),
                                        0,
                                        space,
                                        null,
                                        new QueueCounters(),
                                        event); // and not queue 1
                            } catch (LinuxException e) {
                                throw new IllegalStateException(e);
                            }
                        },
                        THREADS)
                .get(60, TimeUnit.SECONDS);
        await(() -> !Files.exists(Path.of("/proc/self/task", Integer.toString(thread[0]))));
        queue[0].close();
        Linux.close(fd);
        Linux.close(event);
        control.stop(id);
        assertThat(control.delete(id)).isTrue();
        assertThat(ControlDevice.ids()).isEmpty();
    }

    /** Kernel test stress_05 and blktests ublk/004. */
    @Test
    void deletingItGivesItsWaitingReaderAnError() throws Exception {
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
        device.release();
        await(() -> state() == DeviceState.QUIESCED);
        CompletableFuture<Integer> readerThread = new CompletableFuture<>();
        CompletableFuture<Long> reader = CompletableFuture.supplyAsync(
                () -> {
                    readerThread.complete(Linux.threadId());
                    return read(fd);
                },
                THREADS);
        int task = readerThread.get(60, TimeUnit.SECONDS);
        await(() -> waitsForADisk(task));
        control.stop(device.info().id());
        assertThatThrownBy(() -> reader.get(60, TimeUnit.SECONDS)).hasMessageContaining("EIO");
        Linux.close(fd);
        control.delete(device.info().id());
        assertThat(ControlDevice.ids()).isEmpty();
    }

    /** Whether a thread is in an uninterruptible sleep: state D of proc_pid_stat(5). */
    private static boolean waitsForADisk(int task) {
        try {
            String stat = Files.readString(Path.of("/proc/self/task/" + task + "/stat"));
            return stat.charAt(stat.lastIndexOf(')') + 2) == 'D';
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static long read(int fd) {
        try (Arena arena = Arena.ofConfined()) {
            return Linux.read(fd, arena.allocate(4096, 4096), 8192);
        } catch (LinuxException e) {
            throw new IllegalStateException(e.getMessage(), e);
        }
    }

    private DeviceState state() {
        try {
            return control.find(device.info().id()).orElseThrow().state();
        } catch (LinuxException e) {
            throw new AssertionError(e);
        }
    }

    /** Linux 6.12 says QUIESCED a moment before the last reference to the old server's ring is gone. */
    private boolean recoveryBegins(int id) {
        try {
            control.startRecovery(id);
            return true;
        } catch (LinuxException e) {
            assertThat(e.errno()).as(e.getMessage()).isEqualTo(Errno.EBUSY);
            return false;
        }
    }

    private static void await(BooleanSupplier condition) throws InterruptedException {
        for (int tries = 0; !condition.getAsBoolean(); tries++) {
            assertThat(tries).as("tries of 10 ms").isLessThan(6000);
            Thread.sleep(10);
        }
    }
}

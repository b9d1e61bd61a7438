// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Decoded;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** UBLK_U_CMD_QUIESCE_DEV from somebody else while a request is with the server. */
@Tag("kernel")
class QuiesceTest {
    private static final int UNIT = 1 << 20;
    private static final Executor THREADS = task -> Thread.ofPlatform().daemon().start(task);

    /**
     * The driver takes back only the tags that wait for requests. The one that has one is fetched again with its commit,
     * after that, and nobody ever takes it back: a server that waits for all of them waits for ever, and so do its
     * readers.
     */
    @ParameterizedTest
    @ValueSource(ints = {1, 2})
    void aQueueThatStillHasARequestEndsAllTheSameAndItsReadersGoOn(int queues) throws Exception {
        try (ControlDevice control = ControlDevice.open()) {
            assumeTrue(Feature.QUIESCE.in(control.features()), "this kernel has no UBLK_F_QUIESCE (Linux 6.16)");
            Held held = new Held();
            try (FlatImage image =
                            FlatImage.builder(4096).append(held.size(), held, 0).build();
                    AddressSpace space = AddressSpace.map(image)) {
                quiesceWhileHeld(control, held, space, queues);
            }
        }
    }

    private static void quiesceWhileHeld(ControlDevice control, Held held, AddressSpace space, int queues)
            throws Exception {
        DeviceOptions options = new DeviceOptions(
                DeviceOptions.ANY_ID, queues, 4, 4096, 1 << 20, Recovery.REISSUE, 1, false, DataPath.AUTO);
        Device device = Device.start(control, space, options);
        int id = device.info().id();
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
        try {
            CompletableFuture<Integer> first = CompletableFuture.supplyAsync(() -> read(fd, 0), THREADS);
            assertThat(held.asked.await(60, TimeUnit.SECONDS)).isTrue();
            control.quiesce(id, 10_000);
            CompletableFuture<Integer> second = CompletableFuture.supplyAsync(() -> read(fd, UNIT), THREADS);
            held.mayGoOn.countDown();
            CompletableFuture.runAsync(() -> awaitStopped(device), THREADS).get(60, TimeUnit.SECONDS);
            device.release();
            Device next = Device.recover(control, space, id, Duration.ofSeconds(10));
            assertThat(first.get(60, TimeUnit.SECONDS)).isEqualTo(4096);
            assertThat(second.get(60, TimeUnit.SECONDS)).isEqualTo(4096);
            assertThat(control.find(id).orElseThrow().state()).isEqualTo(DeviceState.LIVE);
            Linux.close(fd);
            next.close();
        } finally {
            held.mayGoOn.countDown();
            device.release();
            remove(control, id);
        }
    }

    private static void remove(ControlDevice control, int id) throws LinuxException {
        try {
            control.stop(id);
            control.deleteSoon(id);
        } catch (LinuxException e) {
            assertThat(e.errno()).isEqualTo(Errno.ENODEV); // gone already, as it should be
        }
    }

    private static void awaitStopped(Device device) {
        try {
            device.awaitStopped();
        } catch (IOException | InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    private static int read(int fd, long offset) {
        try (Arena arena = Arena.ofConfined()) {
            return (int) Linux.read(fd, arena.allocate(4096, 4096), offset);
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Zeros that are only to be had once somebody allows it. */
    private static final class Held implements Decoded {
        private final CountDownLatch asked = new CountDownLatch(1);
        private final CountDownLatch mayGoOn = new CountDownLatch(1);
        private final Blob cache;
        private volatile boolean present;

        Held() throws IOException {
            int file = Linux.memoryFile("held");
            Linux.truncate(file, 4L * UNIT);
            cache = Blob.adopt(Path.of("held"), file);
        }

        @Override
        public Blob cache() {
            return cache;
        }

        @Override
        public int unit() {
            return UNIT;
        }

        @Override
        public boolean present(long offset, long length) {
            return present;
        }

        @Override
        public void ensure(long offset, long length) throws IOException {
            asked.countDown();
            try {
                mayGoOn.await();
            } catch (InterruptedException e) {
                throw new IOException(e);
            }
            present = true;
        }

        @Override
        public String name() {
            return "held";
        }

        @Override
        public long size() {
            return cache.size();
        }

        @Override
        public void read(long offset, MemorySegment target) throws IOException {
            cache.read(offset, target);
        }

        @Override
        public void close() {
            cache.close();
        }
    }
}

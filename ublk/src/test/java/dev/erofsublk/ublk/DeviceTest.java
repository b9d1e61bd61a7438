// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static java.util.concurrent.TimeUnit.NANOSECONDS;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.erofs.ErofsImages;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.function.BooleanSupplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("kernel")
@Timeout(300)
class DeviceTest {
    private static final int MAX_READ = 4 << 20;

    @TempDir
    private Path dir;

    private final List<AutoCloseable> opened = new ArrayList<>();

    @AfterEach
    void close() throws Exception {
        for (int i = opened.size(); i-- > 0; ) {
            opened.get(i).close();
        }
        await(() -> ids().isEmpty());
    }

    private static List<Integer> ids() {
        try {
            return ControlDevice.ids();
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    @ParameterizedTest
    @EnumSource(names = {"A", "B", "B2", "C", "C48"})
    void randomDirectReadsEqualThePlainConcatenation(Kind kind) throws Exception {
        long seed = System.nanoTime();
        System.out.println("DeviceTest " + kind + " seed " + seed);
        Random random = new Random(seed);
        ErofsImage image = opened(ErofsImages.fromFiles(kind.meta(), kind.blobs()));
        Device device = serve(image.flat(), 1, 64);
        int block = image.flat().blockSize();
        int borders = 0;
        try (Blob raw = Blob.open(kind.raw());
                Arena arena = Arena.ofConfined()) {
            assertThat(raw.size()).isEqualTo(image.flat().size());
            MemorySegment served = arena.allocate(MAX_READ, 4096);
            MemorySegment expected = arena.allocate(MAX_READ, 4096);
            int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
            try {
                for (int i = 0; i < 400; i++) {
                    // as many small reads as large: lengths are even in their logarithm
                    int length = Math.max(block, Math.min(MAX_READ, block << random.nextInt(14)) & -block);
                    long offset;
                    if (i % 4 == 0) {
                        Extent extent =
                                image.flat().extent(random.nextInt(image.flat().extentCount()));
                        offset = Math.max(0, extent.end() - (length / 2 & -block) - block);
                    } else {
                        offset = random.nextLong(raw.size() / block) * block;
                    }
                    length = (int) Math.min(length, raw.size() - offset);
                    if (image.flat().indexOf(offset) != image.flat().indexOf(offset + length - 1)) {
                        borders++;
                    }
                    MemorySegment got = served.asSlice(0, length);
                    MemorySegment wanted = expected.asSlice(0, length);
                    assertThat(Linux.read(fd, got, offset)).isEqualTo(length);
                    raw.read(offset, wanted);
                    assertThat(got.mismatch(wanted))
                            .as("seed %d, read of %d at %d", seed, length, offset)
                            .isEqualTo(-1);
                }
            } finally {
                Linux.close(fd);
            }
        }
        if (kind.blobs().size() > 0) {
            assertThat(borders).as("reads that cross a border").isGreaterThan(20);
        }
    }

    @Test
    void readsOfEveryLengthAcrossUnalignedBordersAreRight() throws Exception {
        // 512-byte blocks, so the parts lie in mappings that no page joins
        byte[] content = new byte[64 * 1024];
        new Random(7).nextBytes(content);
        Path file = Files.write(dir.resolve("blob"), content);
        Blob blob = Blob.open(file);
        FlatImage.Builder builder = FlatImage.builder(512);
        for (int i = 0; i < 64; i++) {
            builder.append(512, blob, (63 - i) * 1024L + 512).zeros(i % 3 == 0 ? 512 : 0);
        }
        FlatImage flat = opened(builder.build());
        Device device = serve(flat, 1, 16);
        try (Arena arena = Arena.ofConfined()) {
            int size = (int) flat.size();
            MemorySegment expected = arena.allocate(size, 4096);
            for (int i = 0; i < flat.extentCount(); i++) {
                Extent extent = flat.extent(i);
                extent.source().read(extent.sourceOffset(), expected.asSlice(extent.start(), extent.length()));
            }
            MemorySegment served = arena.allocate(size, 4096);
            int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
            try {
                for (int length = 512; length <= size; length += 512 * 5) {
                    for (int offset = 0; offset + length <= size; offset += 512 * 7) {
                        MemorySegment got = served.asSlice(0, length);
                        assertThat(Linux.read(fd, got, offset)).isEqualTo(length);
                        assertThat(got.mismatch(expected.asSlice(offset, length)))
                                .as("read of %d at %d", length, offset)
                                .isEqualTo(-1);
                    }
                }
            } finally {
                Linux.close(fd);
            }
        }
    }

    @Test
    void kernelSeesAReadOnlyDiskWithTheLimitsOfTheImage() throws Exception {
        Device device = serve(fileOf(1 << 20), 1, 32);
        Path queue = Path.of("/sys/block/ublkb" + device.info().id() + "/queue");
        assertThat(number(queue.resolveSibling("ro"))).isEqualTo(1);
        assertThat(number(queue.resolveSibling("size"))).isEqualTo((1 << 20) / 512);
        assertThat(number(queue.resolve("logical_block_size"))).isEqualTo(512);
        assertThat(number(queue.resolve("physical_block_size"))).isEqualTo(4096);
        assertThat(number(queue.resolve("max_hw_sectors_kb"))).isEqualTo(4096);
        assertThat(number(queue.resolve("discard_max_bytes"))).isZero();
    }

    @Test
    void nothingIsBehindTheEnd() throws Exception {
        Device device = serve(fileOf(1 << 20), 1, 32);
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(8192);
            assertThat(Linux.read(fd, target, (1 << 20) - 4096)).isEqualTo(4096);
            assertThat(Linux.read(fd, target, 1 << 20)).isZero();
            assertThat(Linux.read(fd, target, 1L << 40)).isZero();
        } finally {
            Linux.close(fd);
        }
    }

    @Test
    void writingAndDiscardingAreRefusedByTheKernelAndHangNothing() throws Exception {
        Device device = serve(fileOf(1 << 20), 1, 32);
        String path = device.info().blockPath();
        assertThatThrownBy(() -> writeSector(path, 0))
                .isInstanceOf(LinuxException.class)
                .extracting(e -> ((LinuxException) e).errno())
                .isIn(Errno.EACCES, Errno.EPERM);
        assertThat(run("dd", "if=/dev/zero", "of=" + path, "bs=4096", "count=1", "conv=notrunc", "oflag=direct"))
                .isNotZero();
        assertThat(run("blkdiscard", path)).isNotZero();
        assertThat(run("blkdiscard", "--zeroout", path)).isNotZero();
        assertThat(run("dd", "if=" + path, "of=/dev/null", "bs=64k", "iflag=direct"))
                .isZero();
    }

    /** Kernels differ in whether they let a read-only disk be opened for writing; none lets it be written. */
    private static void writeSector(String path, int flags) throws LinuxException {
        int fd = Linux.open(path, Linux.O_RDWR | flags);
        try (Arena arena = Arena.ofConfined()) {
            Linux.write(fd, arena.allocate(4096, 4096), 0);
        } finally {
            Linux.close(fd);
        }
    }

    @Test
    void writesThatReachTheServerAllTheSameAreErrorsAndHangNothing() throws Exception {
        // A device that claims to be writable: the block layer lets writes through, as it does those of the kernel's
        // own
        // writers, and only the server stands in their way.
        FlatImage flat = fileOf(1 << 20);
        AddressSpace space = opened(AddressSpace.map(flat));
        ControlDevice control = opened(ControlDevice.open());
        Device device = opened(Device.start(control, space, options(DeviceOptions.ANY_ID, 1, 16), false));
        String path = device.info().blockPath();
        for (int i = 0; i < 40; i++) { // more often than there are tags, each of which has served reads
            assertThat(run("dd", "if=" + path, "of=/dev/null", "bs=64k", "iflag=direct"))
                    .isZero();
            assertThatThrownBy(() -> writeSector(path, Linux.O_DIRECT))
                    .isInstanceOf(LinuxException.class)
                    .extracting(e -> ((LinuxException) e).errno())
                    .isEqualTo(Errno.EIO);
        }
        assertThat(run("blkdiscard", path)).isNotZero();
        assertThat(run("blkdiscard", "--zeroout", path)).isNotZero();
        assertThat(run("cmp", path, dir.resolve("file").toString())).isZero();
    }

    @Test
    void verifiedParallelReadsOverTwoQueuesFindNoError() throws Exception {
        Path file = dir.resolve("verified");
        assertThat(run(
                        "fio",
                        "--name=fill",
                        "--filename=" + file,
                        "--rw=write",
                        "--bs=4k",
                        "--size=64M",
                        "--verify=crc32c",
                        "--do_verify=0"))
                .isZero();
        Device device = serve(imageOf(file), 2, 64);
        assertThat(device.info().queues()).isEqualTo(2);
        assertThat(run(
                        "fio",
                        "--name=verify",
                        "--filename=" + device.info().blockPath(),
                        "--readonly",
                        "--rw=randread",
                        "--bs=4k",
                        "--size=64M",
                        "--verify=crc32c",
                        "--verify_fatal=1",
                        "--ioengine=io_uring",
                        "--direct=1",
                        "--iodepth=16",
                        "--numjobs=2",
                        "--time_based",
                        "--runtime=60"))
                .isZero();
    }

    @ParameterizedTest
    @CsvSource({"1, 1000000", "2, 200000"})
    void servingAllocatesNothing(int queues, int requests) throws Exception {
        Device device = serve(fileOf(16 << 20), queues, 64);
        new QueueAllocation(device).assertNoneForRequests(requests);
    }

    @Test
    void closingUnderRunningReadsTakesLessThanTenSeconds() throws Exception {
        Device device = serve(fileOf(16 << 20), 2, 64);
        Process reader = new ProcessBuilder(
                        "fio",
                        "--name=read",
                        "--filename=" + device.info().blockPath(),
                        "--readonly",
                        "--rw=randread",
                        "--bs=4k",
                        "--ioengine=io_uring",
                        "--direct=1",
                        "--iodepth=32",
                        "--numjobs=2",
                        "--time_based",
                        "--runtime=120")
                .redirectErrorStream(true)
                .redirectOutput(dir.resolve("fio.log").toFile())
                .start();
        Path stat = Path.of("/sys/block/ublkb" + device.info().id() + "/stat");
        await(() -> readsDone(stat) > 1000);
        long start = System.nanoTime();
        device.close();
        assertThat(NANOSECONDS.toSeconds(System.nanoTime() - start)).isLessThan(10);
        reader.descendants().forEach(ProcessHandle::destroyForcibly);
        reader.destroyForcibly();
        assertThat(Path.of(device.info().blockPath())).doesNotExist();
    }

    private static long readsDone(Path stat) {
        try {
            return Long.parseLong(Files.readString(stat).strip().split(" +")[0]);
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    @Test
    void addingAndDeletingTwoHundredTimesLeavesNothingBehind() throws Exception {
        FlatImage flat = fileOf(1 << 20);
        for (int i = 0; i < 5; i++) {
            addAndDelete(flat);
        }
        Residue before = Residue.now();
        for (int i = 0; i < 200; i++) {
            addAndDelete(flat);
        }
        Residue after = Residue.now();
        assertThat(after.files()).isEqualTo(before.files());
        assertThat(after.queueThreads()).isZero();
        // The JVM's own mappings (code cache, malloc arenas) come and go; ours would be one or more for each cycle.
        assertThat(after.mappings() - before.mappings()).isLessThan(20);
    }

    private static void addAndDelete(FlatImage flat) throws IOException {
        try (AddressSpace space = AddressSpace.map(flat);
                ControlDevice control = ControlDevice.open();
                Device device = Device.start(control, space, options(DeviceOptions.ANY_ID, 1, 32))) {
            assertThat(Path.of(device.info().blockPath())).exists();
        }
    }

    private record Residue(long files, long mappings, long queueThreads) {
        static Residue now() throws IOException {
            try (var files = Files.list(Path.of("/proc/self/fd"));
                    var maps = Files.lines(Path.of("/proc/self/maps"), StandardCharsets.ISO_8859_1)) {
                long threads = Thread.getAllStackTraces().keySet().stream()
                        .filter(thread -> thread.getName().matches("ublk\\d+-q\\d+"))
                        .count();
                return new Residue(files.count(), maps.count(), threads);
            }
        }
    }

    @Test
    void anIdInUseIsRefusedAndTheDeviceThatHasItGoesOn() throws Exception {
        FlatImage flat = fileOf(1 << 20);
        Device first = serve(flat, 1, 16);
        try (AddressSpace space = AddressSpace.map(flat);
                ControlDevice control = ControlDevice.open()) {
            assertThatThrownBy(() ->
                            Device.start(control, space, options(first.info().id(), 1, 16)))
                    .isInstanceOf(LinuxException.class)
                    .extracting(e -> ((LinuxException) e).errno())
                    .isEqualTo(Errno.EEXIST);
        }
        assertThat(run("dd", "if=" + first.info().blockPath(), "of=/dev/null", "bs=64k", "iflag=direct"))
                .isZero();
    }

    @Test
    void aDeviceStoppedByAnotherProcessEndsItsServer() throws Exception {
        Device device = serve(fileOf(1 << 20), 2, 16);
        try (ControlDevice other = ControlDevice.open()) {
            other.stop(device.info().id());
        }
        device.awaitStopped();
    }

    @Test
    void whatTheKernelGrantsIsObeyed() throws Exception {
        Device device = serve(fileOf(1 << 20), 64, 16);
        assertThat(device.info().queues()).isBetween(1, Runtime.getRuntime().availableProcessors());
        assertThat(run("dd", "if=" + device.info().blockPath(), "of=/dev/null", "bs=64k", "iflag=direct"))
                .isZero();
    }

    @Test
    void aRepeatedReadOfOneBlockIsNoError() throws Exception {
        Device device = serve(fileOf(1 << 20), 1, 16);
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(4096, 4096);
            for (int i = 0; i < 2000; i++) {
                assertThat(Linux.read(fd, target, 8192)).isEqualTo(4096);
            }
        } finally {
            Linux.close(fd);
        }
    }

    @Test
    void bytesOfATruncatedBlobAreAnErrorAtOnceAndTheOthersAreServed() throws Exception {
        Path file = Files.write(dir.resolve("truncated"), new byte[1 << 20]);
        Device device = serve(imageOf(file), 1, 16);
        int writable = Linux.open(file.toString(), Linux.O_RDWR);
        Linux.truncate(writable, 512 << 10);
        Linux.close(writable);
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(64 << 10, 4096);
            assertThatThrownBy(() -> Linux.read(fd, target.asSlice(0, 4096), 768 << 10))
                    .isInstanceOf(LinuxException.class)
                    .extracting(e -> ((LinuxException) e).errno())
                    .isEqualTo(Errno.EIO);
            assertThat(Linux.read(fd, target, 0)).isEqualTo(64 << 10);
        } finally {
            Linux.close(fd);
        }
    }

    @Test
    void queueThreadsAreMarkedAsIoFlushers() throws Exception {
        Device device = serve(fileOf(1 << 20), 1, 16);
        // PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE, include/linux/sched.h
        assertThat(queueStat(device, 9) & 0x00180000).isEqualTo(0x00180000);
    }

    /** Field {@code field} of proc(5)'s stat, counted from 1, of the thread of the first queue. */
    private static long queueStat(Device device, int field) throws IOException {
        try (var tasks = Files.list(Path.of("/proc/self/task"))) {
            for (Path task : tasks.toList()) {
                if (Files.readString(task.resolve("comm"))
                        .strip()
                        .equals("ublk" + device.info().id() + "-q0")) {
                    String stat = Files.readString(task.resolve("stat"));
                    return Long.parseLong(
                            stat.substring(stat.lastIndexOf(')') + 2).split(" ")[field - 3]);
                }
            }
        }
        throw new AssertionError("no thread of queue 0");
    }

    @ParameterizedTest
    @ValueSource(ints = {Device.MAX_SPIN_MICROS, Device.SPIN_AUTO})
    void aQueueThatSpinsServesTheSameAndSleepsWhenNothingComes(int micros) throws Exception {
        FlatImage flat = fileOf(1 << 20);
        byte[] content = Files.readAllBytes(dir.resolve("file"));
        Device device = serve(flat, 1, 16);
        device.spin(micros);
        int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment got = arena.allocate(4096, 4096);
            for (int round = 0; round < 8; round++) {
                for (int offset = 0; offset < content.length; offset += 4096) {
                    assertThat(Linux.read(fd, got, offset)).isEqualTo(4096);
                    assertThat(got.mismatch(MemorySegment.ofArray(content).asSlice(offset, 4096)))
                            .isEqualTo(-1);
                }
            }
        } finally {
            Linux.close(fd);
        }
        long used = Long.MAX_VALUE;
        for (int tries = 0; tries < 20 && used > 2; tries++) {
            long before = queueStat(device, 14) + queueStat(device, 15);
            Thread.sleep(200);
            used = queueStat(device, 14) + queueStat(device, 15) - before;
        }
        assertThat(used).as("hundredths of a second of processor time in 20").isLessThan(3);
    }

    private static DeviceOptions options(int id, int queues, int depth) {
        return new DeviceOptions(id, queues, depth, 512, DeviceOptions.DEFAULT_MAX_IO_BYTES);
    }

    /** A thread that has the processors of its readers would take their place for each single request. */
    @Test
    void theThreadsOfSeveralQueuesPreemptNobody() throws Exception {
        for (int queues = 1; queues <= 2; queues++) {
            FlatImage flat = opened(FlatImage.builder(4096).zeros(1 << 20).build());
            Device device = serve(flat, queues, 8);
            String prefix = "(ublk" + device.info().id() + "-q";
            List<String> policies = new ArrayList<>();
            try (Stream<Path> tasks = Files.list(Path.of("/proc/self/task"))) {
                for (Path task : tasks.toList()) {
                    String stat = statOf(task);
                    if (stat.contains(
                            prefix)) { // proc(5): the policy is field 41, and the second ends with the last ")"
                        policies.add(stat.substring(stat.lastIndexOf(')') + 2).split(" ")[41 - 3]);
                    }
                }
            }
            assertThat(policies)
                    .as("SCHED_OTHER is 0, SCHED_BATCH 3")
                    .containsExactlyElementsOf(queues == 1 ? List.of("0") : List.of("3", "3"));
        }
    }

    /** Empty if the task is gone by now, as the compilers' are at times. */
    private static String statOf(Path task) {
        try {
            return Files.readString(task.resolve("stat"));
        } catch (IOException gone) {
            return "";
        }
    }

    private Device serve(FlatImage flat, int queues, int depth) throws IOException {
        AddressSpace space = opened(AddressSpace.map(flat));
        ControlDevice control = opened(ControlDevice.open());
        return opened(Device.start(
                control,
                space,
                new DeviceOptions(
                        DeviceOptions.ANY_ID, queues, depth, flat.blockSize(), DeviceOptions.DEFAULT_MAX_IO_BYTES)));
    }

    private FlatImage fileOf(int bytes) throws IOException {
        byte[] content = new byte[bytes];
        new Random(bytes).nextBytes(content);
        return imageOf(Files.write(dir.resolve("file"), content));
    }

    private FlatImage imageOf(Path file) throws IOException {
        Blob blob = Blob.open(file);
        return opened(FlatImage.builder(512).append(blob.size(), blob, 0).build());
    }

    private <T extends AutoCloseable> T opened(T resource) {
        opened.add(resource);
        return resource;
    }

    private static long number(Path file) throws IOException {
        return Long.parseLong(Files.readString(file).strip());
    }

    private static int run(String... command) throws IOException, InterruptedException {
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String output = new String(process.getInputStream().readAllBytes());
        int status = process.waitFor();
        if (status != 0) {
            System.out.println(String.join(" ", command) + " ended with " + status + ":\n" + output);
        }
        return status;
    }

    private static void await(BooleanSupplier condition) throws InterruptedException {
        for (int tries = 0; !condition.getAsBoolean(); tries++) {
            assertThat(tries).as("tries of 10 ms").isLessThan(6000);
            Thread.sleep(10);
        }
    }
}

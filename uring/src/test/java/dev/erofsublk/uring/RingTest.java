// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.sun.management.ThreadMXBean;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class RingTest {
    @ParameterizedTest
    @ValueSource(ints = {0, IoUring.IORING_SETUP_SQE128, IoUring.QUEUE_SETUP})
    void nopsComeBackWithTheirUserDataInOrder(int flags) throws Exception {
        try (Ring ring = Ring.create(8, flags)) {
            for (int i = 0; i < 8; i++) {
                nop(ring, 100 + i);
            }
            assertThat(ring.submitAndWait(8)).isEqualTo(8);
            assertThat(completions(ring)).containsExactly(100, 101, 102, 103, 104, 105, 106, 107);
        }
    }

    @Test
    void readFillsMemoryWithTheBytesOfTheFile(@TempDir Path dir) throws Exception {
        byte[] content = new byte[10_000];
        new Random(1).nextBytes(content);
        int fd = fileOf(dir, content);
        try (Ring ring = Ring.create(4, IoUring.QUEUE_SETUP);
                Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(4096);
            assertThat(read(ring, fd, target, 5000)).isEqualTo(4096);
            assertThat(target.toArray(JAVA_BYTE)).isEqualTo(Arrays.copyOfRange(content, 5000, 9096));
        } finally {
            Linux.close(fd);
        }
    }

    @Test
    void readAcrossTheEndIsShortAndPastItIsZero(@TempDir Path dir) throws Exception {
        int fd = fileOf(dir, new byte[1000]);
        try (Ring ring = Ring.create(4, 0);
                Arena arena = Arena.ofConfined()) {
            assertThat(read(ring, fd, arena.allocate(512), 900)).isEqualTo(100);
            assertThat(read(ring, fd, arena.allocate(512), 1000)).isZero();
        } finally {
            Linux.close(fd);
        }
    }

    @Test
    void aBadDescriptorIsTheResultOfItsEntryAndStopsNoOther() throws Exception {
        try (Ring ring = Ring.create(4, IoUring.QUEUE_SETUP)) {
            long bad = ring.nextSqe();
            Sqe.opcode(ring.sqes(), bad, IoUring.IORING_OP_READ);
            Sqe.fd(ring.sqes(), bad, 999_999);
            Sqe.userData(ring.sqes(), bad, 1);
            nop(ring, 2);
            ring.submitAndWait(2);
            assertThat(ring.ready()).isEqualTo(2);
            assertThat(Cqe.result(ring.cqes(), ring.cqe(0))).isEqualTo(-Errno.EBADF);
            assertThat(Cqe.result(ring.cqes(), ring.cqe(1))).isZero();
        }
    }

    @Test
    void aFullQueueSaysSoAndHasRoomAgainOnceSubmitted() throws Exception {
        try (Ring ring = Ring.create(4, 0)) {
            for (int i = 0; i < 4; i++) {
                assertThat(ring.nextSqe()).isEqualTo(64L * i);
            }
            assertThat(ring.sqSpace()).isZero();
            assertThat(ring.nextSqe()).isEqualTo(-1);
            ring.submitAndWait(4);
            assertThat(ring.sqSpace()).isEqualTo(4);
        }
    }

    @Test
    void aClaimedEntryIsAsItsLastUserLeftItAndATakenOneIsZero() throws Exception {
        try (Ring ring = Ring.create(1, 0)) {
            nop(ring, 7);
            ring.submitAndWait(1);
            long claimed = ring.claimSqe();
            assertThat(ring.sqes().get(JAVA_LONG, claimed + Sqe.USER_DATA)).isEqualTo(7);
            assertThat(ring.claimSqe()).isEqualTo(-1);
            ring.submitAndWait(1);
            long taken = ring.nextSqe();
            assertThat(ring.sqes().get(JAVA_LONG, taken + Sqe.USER_DATA)).isZero();
        }
    }

    @Test
    void aRegisteredDescriptorAndFileDoWhatTheUnregisteredDid(@TempDir Path dir) throws Exception {
        int fd = fileOf(dir, new byte[] {1, 2, 3, 4, 5, 6, 7, 8});
        try (Ring ring = Ring.create(4, IoUring.QUEUE_SETUP);
                Arena arena = Arena.ofConfined()) {
            assertThat(ring.registerDescriptor()).isTrue();
            assertThat(ring.registerFiles(fd)).isTrue();
            Linux.close(fd); // the ring keeps it open
            MemorySegment target = arena.allocate(8);
            long at = ring.nextSqe();
            Sqe.opcode(ring.sqes(), at, IoUring.IORING_OP_READ);
            Sqe.flags(ring.sqes(), at, IoUring.IOSQE_FIXED_FILE);
            Sqe.fd(ring.sqes(), at, 0);
            Sqe.address(ring.sqes(), at, target.address());
            Sqe.length(ring.sqes(), at, 8);
            ring.submitAndWait(1);
            assertThat(Cqe.result(ring.cqes(), ring.cqe(0))).isEqualTo(8);
            assertThat(target.toArray(JAVA_BYTE)).containsExactly(1, 2, 3, 4, 5, 6, 7, 8);
        }
    }

    @Test
    void closingARingWithARegisteredDescriptorReleasesIt() throws Exception {
        for (int i = 0; i < 100; i++) { // a task has room for 16 registered rings
            try (Ring ring = Ring.create(1, IoUring.QUEUE_SETUP)) {
                assertThat(ring.registerDescriptor()).isTrue();
            }
        }
    }

    @Test
    void completionsWaitInTheRingUntilConsumedHoweverOftenItWraps() throws Exception {
        try (Ring ring = Ring.create(4, IoUring.QUEUE_SETUP)) {
            for (int i = 0; i < 1000; i++) {
                nop(ring, i);
                ring.submitAndWait(1);
                assertThat(completions(ring)).containsExactly(i);
            }
        }
    }

    @Test
    void headAndTailCountOnBeyond32Bits() {
        int start = -3; // 4294967293: the counters wrap after three entries
        try (Arena arena = Arena.ofConfined()) {
            FakeKernel kernel = new FakeKernel(arena, start);
            Ring ring = kernel.ring;
            for (int i = 0; i < 4; i++) {
                assertThat(ring.nextSqe()).isEqualTo(64L * ((start + i) & 3));
            }
            assertThat(ring.nextSqe()).isEqualTo(-1);
            kernel.take(4);
            assertThat(ring.sqSpace()).isEqualTo(4);

            kernel.complete(7);
            assertThat(ring.ready()).isEqualTo(7);
            assertThat(completions(ring)).containsExactly(0, 1, 2, 3, 4, 5, 6);
            assertThat(kernel.completionHead()).isEqualTo(start + 7);
            assertThat(ring.ready()).isZero();
        }
    }

    @Test
    void flagsThatTheKernelLacksAreDroppedAndTheGrantedOnesReported() throws Exception {
        try (Ring ring = Ring.create(1, IoUring.QUEUE_SETUP | IoUring.IORING_SETUP_SQE128)) {
            assertThat(ring.flags() & IoUring.IORING_SETUP_SQE128).isNotZero();
            assertThat(ring.flags() & ~(IoUring.QUEUE_SETUP | IoUring.IORING_SETUP_SQE128))
                    .isZero();
        }
    }

    @Test
    void aRingTellsThatThereIsWorkWithoutACall() throws Exception {
        int event = Linux.event();
        try (Ring ring = Ring.create(4, IoUring.QUEUE_SETUP)) {
            long at = ring.nextSqe();
            Sqe.opcode(ring.sqes(), at, IoUring.IORING_OP_POLL_ADD);
            Sqe.fd(ring.sqes(), at, event);
            Sqe.pollEvents(ring.sqes(), at, Linux.POLLIN);
            ring.submitAndWait(0);
            assertThat(ring.isWorkDue()).isFalse();
            Linux.raise(event);
            assertThat(ring.isWorkDue()).isEqualTo((ring.flags() & IoUring.IORING_SETUP_TASKRUN_FLAG) != 0);
            assertThat(ring.ready()).isZero();
            ring.submitAndWait(1);
            assertThat(ring.ready()).isEqualTo(1);
            assertThat(ring.isWorkDue()).isFalse();
        } finally {
            Linux.close(event);
        }
    }

    @Test
    void anImpossibleRingNamesCallAndArguments() {
        assertThatThrownBy(() -> Ring.create(1_000_000, 0))
                .isInstanceOf(LinuxException.class)
                .hasMessage("io_uring_setup(1000000 entries, flags 0x0): Invalid argument [EINVAL]");
    }

    @Test
    void aTurnAllocatesNothing() throws Exception {
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        try (Ring ring = Ring.create(32, IoUring.QUEUE_SETUP)) {
            long allocated = Long.MAX_VALUE;
            for (int round = 0; round < 20 && allocated > 0; round++) { // until C2 has compiled it
                long before = threads.getCurrentThreadAllocatedBytes();
                turns(ring, 20_000);
                allocated = threads.getCurrentThreadAllocatedBytes() - before;
            }
            assertThat(allocated).as("bytes for 20,000 turns of 32 operations").isZero();
        }
    }

    private static void turns(Ring ring, int count) throws LinuxException {
        for (int turn = 0; turn < count; turn++) {
            for (int i = 0; i < 32; i++) {
                nop(ring, i);
            }
            ring.submitAndWait(32);
            ring.consume(ring.ready());
        }
    }

    private static void nop(Ring ring, long userData) {
        long at = ring.nextSqe();
        Sqe.opcode(ring.sqes(), at, IoUring.IORING_OP_NOP);
        Sqe.userData(ring.sqes(), at, userData);
    }

    private static int read(Ring ring, int fd, MemorySegment target, long offset) throws LinuxException {
        long at = ring.nextSqe();
        Sqe.opcode(ring.sqes(), at, IoUring.IORING_OP_READ);
        Sqe.fd(ring.sqes(), at, fd);
        Sqe.offset(ring.sqes(), at, offset);
        Sqe.address(ring.sqes(), at, target.address());
        Sqe.length(ring.sqes(), at, (int) target.byteSize());
        ring.submitAndWait(1);
        int result = Cqe.result(ring.cqes(), ring.cqe(0));
        ring.consume(1);
        return result;
    }

    private static long[] completions(Ring ring) {
        int ready = ring.ready();
        long[] userData = LongStream.range(0, ready)
                .map(i -> Cqe.userData(ring.cqes(), ring.cqe((int) i)))
                .toArray();
        ring.consume(ready);
        return userData;
    }

    private static int fileOf(Path dir, byte[] content) throws Exception {
        Path file = dir.resolve("file");
        Files.write(file, content);
        return Linux.open(file.toString(), Linux.O_RDONLY);
    }

    /** Rings of 4 and 8 entries in plain memory, whose counters stand where no test could wait for them to get. */
    private static final class FakeKernel {
        private static final int SQ_ENTRIES = 4;
        private static final int CQ_ENTRIES = 8;
        private static final int SQ_HEAD = 0;
        private static final int SQ_TAIL = 4;
        private static final int CQ_HEAD = 8;
        private static final int CQ_TAIL = 12;
        private static final int SQ_ARRAY = 16;
        private static final int CQES = 64;

        private final MemorySegment memory;
        private final Ring ring;

        FakeKernel(Arena arena, int start) {
            memory = arena.allocate(CQES + CQ_ENTRIES * Cqe.BYTES, 64);
            for (int counter : new int[] {SQ_HEAD, SQ_TAIL, CQ_HEAD, CQ_TAIL}) {
                memory.set(JAVA_INT, counter, start);
            }
            MemorySegment params = arena.allocate(RingParams.BYTES, 8);
            params.set(JAVA_INT, RingParams.SQ_ENTRIES, SQ_ENTRIES);
            params.set(JAVA_INT, RingParams.CQ_ENTRIES, CQ_ENTRIES);
            params.set(JAVA_INT, RingParams.SQ_OFF + RingParams.SQ_HEAD, SQ_HEAD);
            params.set(JAVA_INT, RingParams.SQ_OFF + RingParams.SQ_TAIL, SQ_TAIL);
            params.set(JAVA_INT, RingParams.SQ_OFF + RingParams.SQ_ARRAY, SQ_ARRAY);
            params.set(JAVA_INT, RingParams.CQ_OFF + RingParams.CQ_HEAD, CQ_HEAD);
            params.set(JAVA_INT, RingParams.CQ_OFF + RingParams.CQ_TAIL, CQ_TAIL);
            params.set(JAVA_INT, RingParams.CQ_OFF + RingParams.CQ_CQES, CQES);
            MemorySegment sqes = arena.allocate(SQ_ENTRIES * Sqe.BYTES, 64);
            ring = new Ring(-1, arena, params, memory, sqes);
        }

        void take(int entries) {
            memory.set(JAVA_INT, SQ_HEAD, memory.get(JAVA_INT, SQ_HEAD) + entries);
        }

        void complete(int entries) {
            int tail = memory.get(JAVA_INT, CQ_TAIL);
            for (int i = 0; i < entries; i++) {
                memory.set(JAVA_LONG, CQES + (long) ((tail + i) & (CQ_ENTRIES - 1)) * Cqe.BYTES, i);
            }
            memory.set(JAVA_INT, CQ_TAIL, tail + entries);
        }

        int completionHead() {
            return memory.get(JAVA_INT, CQ_HEAD);
        }
    }
}

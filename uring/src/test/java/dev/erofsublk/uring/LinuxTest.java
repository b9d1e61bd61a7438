// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.BitSet;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LinuxTest {
    @Test
    void aFailureNamesCallArgumentsAndError() {
        assertThatThrownBy(() -> Linux.open("/nonexistent/file", Linux.O_RDONLY))
                .isInstanceOf(LinuxException.class)
                .hasMessage("open(/nonexistent/file): No such file or directory [ENOENT]")
                .extracting(e -> ((LinuxException) e).errno())
                .isEqualTo(Errno.ENOENT);
    }

    @Test
    void statusTellsWhatTheJavaLibraryTells(@TempDir Path dir) throws Exception {
        Path file = Files.write(dir.resolve("file"), new byte[12345]);
        int fd = Linux.open(file.toString(), Linux.O_RDONLY);
        try {
            FileStatus status = Linux.status(fd);
            assertThat(status.isRegularFile()).isTrue();
            assertThat(status.size()).isEqualTo(12345);
            assertThat(status.inode()).isEqualTo(Files.getAttribute(file, "unix:ino"));
            assertThat(status.modifiedNanos() / 1000)
                    .isEqualTo(Files.getLastModifiedTime(file).to(java.util.concurrent.TimeUnit.MICROSECONDS));
        } finally {
            Linux.close(fd);
        }
    }

    @Test
    void whoSharesItsProcessorWithABusyThreadIsPreempted() throws Exception {
        AtomicBoolean done = new AtomicBoolean();
        Thread busy = Thread.ofPlatform().daemon().unstarted(() -> spinOnFirstProcessor(done::get));
        Thread counting = Thread.ofPlatform().daemon().unstarted(() -> {
            MemorySegment usage = Arena.ofAuto().allocate(Linux.USAGE_BYTES, 8);
            long before = Linux.preemptions(usage);
            spinOnFirstProcessor(() -> Linux.preemptions(usage) >= before + 3);
        });
        busy.start();
        counting.start();
        try {
            assertThat(counting.join(Duration.ofSeconds(20))).as("preempted").isTrue();
        } finally {
            done.set(true);
        }
    }

    @Test
    void aThreadThatPreemptsNobodyIsOneOfTheBatchPolicy() throws Exception {
        AtomicReference<String> stat = new AtomicReference<>();
        Thread thread = Thread.ofPlatform().start(() -> {
            try {
                Linux.preemptNobody();
                stat.set(Files.readString(Path.of("/proc/self/task/" + Linux.threadId() + "/stat")));
            } catch (IOException e) {
                throw new AssertionError(e);
            }
        });
        thread.join();
        // proc(5): the policy is field 41; the second, the name in parentheses, may hold blanks
        String[] fields = stat.get().substring(stat.get().lastIndexOf(')') + 2).split(" ");
        assertThat(fields[41 - 3]).isEqualTo("3");
    }

    private static void spinOnFirstProcessor(BooleanSupplier end) {
        BitSet first = new BitSet();
        first.set(0);
        try {
            Linux.setAffinity(first);
        } catch (LinuxException e) {
            throw new AssertionError(e);
        }
        while (!end.getAsBoolean()) {
            Thread.onSpinWait();
        }
    }

    @Test
    void readAndWriteAreWholeAndOnlyShortAtTheEnd(@TempDir Path dir) throws Exception {
        Path file = Files.createFile(dir.resolve("file"));
        int fd = Linux.open(file.toString(), Linux.O_RDWR);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment written = arena.allocate(100_000);
            for (int i = 0; i < 100_000; i++) {
                written.set(JAVA_BYTE, i, (byte) (i * 7));
            }
            Linux.write(fd, written, 50);
            MemorySegment back = arena.allocate(100_000);
            assertThat(Linux.read(fd, back, 50)).isEqualTo(100_000);
            assertThat(back.mismatch(written)).isEqualTo(-1);
            assertThat(Linux.read(fd, back, 100_000)).isEqualTo(50);
        } finally {
            Linux.close(fd);
        }
    }

    @Test
    void populatingReportsPagesThatAreNotThere(@TempDir Path dir) throws Exception {
        Path file = Files.write(dir.resolve("file"), new byte[3 * Linux.PAGE_SIZE]);
        int fd = Linux.open(file.toString(), Linux.O_RDWR);
        long bytes = 3L * Linux.PAGE_SIZE;
        long address = Linux.mmap(0, bytes, Linux.PROT_READ, Linux.MAP_SHARED, fd, 0);
        try {
            assertThat(Linux.madvise(address, bytes, Linux.MADV_POPULATE_READ)).isZero();
            Linux.truncate(fd, Linux.PAGE_SIZE);
            assertThat(Linux.madvise(address, bytes, Linux.MADV_POPULATE_READ)).isEqualTo(Errno.EFAULT);
            assertThat(Linux.madvise(address, Linux.PAGE_SIZE, Linux.MADV_POPULATE_READ))
                    .isZero();
        } finally {
            Linux.munmap(address, bytes);
            Linux.close(fd);
        }
    }

    @Test
    void aMappingThatCannotBeNamesItsArguments() {
        assertThatThrownBy(() -> Linux.mmap(0, 4096, Linux.PROT_READ, Linux.MAP_SHARED, -1, 0))
                .hasMessage("mmap(0x0, 4096 bytes, fd -1, offset 0): Bad file descriptor [EBADF]");
    }

    @Test
    void aThreadCanBePinnedToOneCpu() throws Exception {
        Thread thread = Thread.ofPlatform().start(() -> {
            BitSet first = new BitSet();
            first.set(0);
            try {
                Linux.setAffinity(first);
                String status = Files.readString(Path.of("/proc/thread-self/status"));
                assertThat(status).containsPattern("Cpus_allowed_list:\\s+0\\n");
            } catch (Exception e) {
                throw new AssertionError(e);
            }
        });
        Throwable[] failure = new Throwable[1];
        thread.setUncaughtExceptionHandler((t, e) -> failure[0] = e);
        thread.join();
        assertThat(failure[0]).isNull();
    }

    @Test
    void aSysctlIsReadWhole() throws Exception {
        Process sysctl = new ProcessBuilder("cat", "/proc/sys/vm/max_map_count").start();
        assertThat(new String(sysctl.getInputStream().readAllBytes()).strip())
                .isEqualTo(Long.toString(Sysctl.number("vm/max_map_count")));
    }

    @Test
    void pageSizeIsTheKernels() throws Exception {
        Process getconf = new ProcessBuilder("getconf", "PAGE_SIZE").start();
        assertThat(new String(getconf.getInputStream().readAllBytes()).strip())
                .isEqualTo(Integer.toString(Linux.PAGE_SIZE));
    }
}

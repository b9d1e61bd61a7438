// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static dev.erofsublk.daemon.VerifiedReader.await;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.FirstTouches;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.probe.Format;
import dev.erofsublk.composer.source.ImageSource;
import dev.erofsublk.composer.trace.AccessTrace;
import dev.erofsublk.composer.trace.ImageIdentity;
import dev.erofsublk.ublk.DataPath;
import dev.erofsublk.ublk.DeviceOptions;
import dev.erofsublk.ublk.Recovery;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * A device that is started a second time, of a file that is in no memory by then: some 12 MiB on a file system with a disk
 * below it, from which it is evicted.
 */
@Tag("kernel")
@Timeout(300)
class PrefetchDeviceTest {
    private static final int UNIT = FirstTouches.UNIT_BYTES;
    private static final int READS = 40;

    @TempDir
    private Path dir;

    private final Path file = Kind.C.blobs().getFirst();
    private final SourceSpec source =
            new SourceSpec(new ImageSource(null, null, List.of(), file, Format.RAW, List.of(), null));
    private final List<Long> units = new ArrayList<>();
    private String usualReadAhead = "";
    private StateDirectory state;
    private Daemon daemon;

    @BeforeEach
    void start() throws Exception {
        state = StateDirectory.at(dir.resolve("run"));
        state.create();
        daemon = new Daemon(state, AllowedPaths.of(List.of()), false);
        Log.to(dir.resolve("log"));
        for (long unit = 20; unit < Files.size(file) / UNIT; unit++) {
            units.add(unit);
        }
        if (Files.exists(readAhead(file))) {
            usualReadAhead = Files.readString(readAhead(file));
            Files.writeString(readAhead(file), "64");
        }
        long seed = new Random().nextLong();
        System.out.println("seed " + seed);
        Collections.shuffle(units, new Random(seed));
        units.subList(READS, units.size()).clear();
    }

    @AfterEach
    void end() throws Exception {
        daemon.deleteAll();
        if (!usualReadAhead.isEmpty()) {
            Files.writeString(readAhead(file), usualReadAhead);
        }
        Files.readAllLines(dir.resolve("log")).forEach(System.out::println);
    }

    private ServedDevice add(Backend backend, TraceFiles trace) throws IOException {
        return daemon.add(new DeviceSpec(
                source,
                backend,
                DeviceOptions.ANY_ID,
                1,
                backend == Backend.NBD ? NbdServed.DEPTH : 16,
                0,
                Recovery.REISSUE,
                false,
                DataPath.AUTO,
                0,
                false,
                DeviceSpec.DEFAULT_TIMEOUT,
                DeviceSpec.DEFAULT_DEAD_TIMEOUT,
                trace));
    }

    /** How far the kernel reads around a fault; by default so far that a few reads bring in the whole file. */
    private static Path readAhead(Path file) throws IOException {
        long device = (long) Files.getAttribute(file, "unix:dev");
        long minor = device & 0xff | device >> 12 & 0xfff00;
        return Path.of("/sys/class/bdi/%d:%d/read_ahead_kb".formatted(device >> 8 & 0xfff, minor));
    }

    private void delete(ServedDevice device) throws Exception {
        new Deletion(true, false).delete(device.id());
        daemon.awaitForgotten(device.id());
    }

    /** What is mapped stays in the page cache, such as by the daemon of an earlier test until it is gone. */
    private void evict() throws Exception {
        await(() -> {
            giveUp();
            return !isCached();
        });
    }

    /** Whether any of what is to be read is in memory. */
    private boolean isCached() throws IOException {
        int fd = Linux.open(file.toString(), Linux.O_RDONLY);
        long bytes = Files.size(file);
        long address = Linux.mmap(0, bytes, Linux.PROT_READ, Linux.MAP_SHARED, fd, 0);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment page = arena.allocate(1);
            return units.stream()
                    .anyMatch(unit -> Linux.pagesInMemory(address + unit * UNIT + 8192, Linux.PAGE_SIZE, page) == 1);
        } finally {
            Linux.munmap(address, bytes);
            Linux.close(fd);
        }
    }

    private void giveUp() throws Exception {
        // posix_fadvise(DONTNEED) on all of it
        Process dd = new ProcessBuilder("dd", "if=" + file, "iflag=nocache", "count=0", "status=none")
                .inheritIO()
                .start();
        assertThat(dd.waitFor()).isZero();
    }

    private AccessTrace trace(Path path) throws IOException {
        try (Image image = source.open()) {
            return AccessTrace.read(path, ImageIdentity.of(image));
        }
    }

    /** The units of {@code trace} of which this test knows, as the kernel and udev read some as well. */
    private List<Long> known(AccessTrace trace) {
        List<Long> known = new ArrayList<>();
        for (long run : trace.runs()) {
            for (int i = 0; i < FirstTouches.count(run); i++) {
                known.add(FirstTouches.first(run) + i);
            }
        }
        known.retainAll(units);
        return known;
    }

    /** Reads 4 KiB of each of the units, past the page cache; how many of the reads were cold. */
    private long read(ServedDevice device, List<Long> order) throws IOException {
        long before = device.counters().coldReads();
        int fd = Linux.open(device.path(), Linux.O_RDONLY | Linux.O_DIRECT);
        try (Arena arena = Arena.ofConfined();
                Image image = source.open()) {
            MemorySegment found = arena.allocate(4096, 4096);
            MemorySegment expected = arena.allocate(4096, 4096);
            for (long unit : order) {
                long offset = unit * UNIT + 8192;
                assertThat(Linux.read(fd, found, offset)).isEqualTo(4096);
                image.flat().sources().getFirst().read(offset, expected);
                assertThat(found.mismatch(expected)).isEqualTo(-1);
            }
        } finally {
            Linux.close(fd);
        }
        return device.counters().coldReads() - before;
    }

    @ParameterizedTest
    @EnumSource
    void whatTheFirstStartReadTheSecondHasBeforeItIsAskedFor(Backend backend) throws Exception {
        Path trace = dir.resolve("trace");
        evict();
        ServedDevice first = add(backend, new TraceFiles(trace, null));
        assertThat(read(first, units)).as("cold reads at first").isGreaterThan(READS / 4);
        delete(first);
        assertThat(known(trace(trace))).containsExactlyElementsOf(units);

        evict();
        ServedDevice without = add(backend, TraceFiles.NONE);
        assertThat(read(without, units)).as("cold reads without a trace").isGreaterThan(READS / 4);
        delete(without);

        evict();
        ServedDevice second = add(backend, new TraceFiles(null, trace));
        await(() -> second.history.prefetchLeft() == 0);
        assertThat(read(second, units)).as("cold reads with the trace").isZero();
        delete(second);
    }

    /** Data that were in the page cache all along are recorded as well, and so are those that were prefetched. */
    @Test
    void aStartThatReplaysCanRecordToo() throws Exception {
        Path trace = dir.resolve("trace");
        Files.readAllBytes(file);
        ServedDevice first = add(Backend.UBLK, new TraceFiles(trace, null));
        read(first, units);
        delete(first);
        assertThat(known(trace(trace))).containsExactlyElementsOf(units);

        evict();
        ServedDevice second = add(Backend.UBLK, new TraceFiles(trace, trace));
        await(() -> second.history.prefetchLeft() == 0);
        List<Long> half = units.reversed().subList(0, READS / 2);
        assertThat(read(second, half)).as("cold reads").isZero();
        delete(second);
        assertThat(known(trace(trace))).containsExactlyElementsOf(half);
    }

    @Test
    void theNextDaemonGoesOnWithBoth() throws Exception {
        Path before = dir.resolve("before");
        Path trace = dir.resolve("trace");
        ServedDevice recorded = add(Backend.UBLK, new TraceFiles(before, null));
        read(recorded, units);
        delete(recorded);

        ServedDevice device = add(Backend.UBLK, new TraceFiles(trace, before));
        read(device, units.subList(0, 10));
        daemon.handOverAll();
        device.release(); // what its process has mapped goes with that; here it would keep the file in memory
        assertThat(known(trace(trace))).containsExactlyElementsOf(units.subList(0, 10));
        daemon = new Daemon(state, AllowedPaths.of(List.of()), false);
        daemon.recoverAll(new PreparedImages(state, AllowedPaths.of(List.of())));
        ServedDevice again = daemon.device(device.id()).orElseThrow();
        assertThat(again.record().spec()).isEqualTo(device.record().spec());
        await(() -> again.history.prefetchLeft() == 0);
        read(again, units);
        delete(again);
        assertThat(known(trace(trace))).containsExactlyElementsOf(units);
    }

    @Test
    void aTraceOfAnotherImageMakesNoDevice() throws Exception {
        Path trace = dir.resolve("trace");
        new AccessTrace(new ImageIdentity("raw", "", 65536), new long[0]).write(trace);
        assertThatThrownBy(() -> add(Backend.UBLK, new TraceFiles(null, trace)))
                .isInstanceOf(ImageException.class)
                .hasMessage(trace + ": size is \"65536\", expected " + Files.size(file) + ", that of the image");
        assertThatThrownBy(() -> add(Backend.UBLK, new TraceFiles(file, null)))
                .hasMessage(file + ": it is a part of the image");
        assertThat(daemon.devices()).isEmpty();
        assertThat(state.ids()).isEmpty();
    }
}

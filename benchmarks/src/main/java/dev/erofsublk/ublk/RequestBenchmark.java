// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import dev.erofsublk.benchmarks.HotPath;
import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.PlainRing;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.Random;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Setup;

/**
 * What does Java do for a request? From the descriptor to the filled-in commit: read it, check it, find the address, ask
 * whether it is resident, write the entry. Without the system call, by the number of extents and how they were placed.
 *
 * <p>Last answer (medians): 15 ns for one extent and 16 ns for 100,000 placed by the MMU; 61 ns for 1,000 and 106 ns for
 * 100,000 in the table.
 */
public class RequestBenchmark extends HotPath {
    private static final int DEPTH = 128;
    private static final int REQUESTS = 1 << 12;
    /** A device on which a tag hardly ever brings the block that it brought last, for then the kernel is asked first. */
    private static final int LEAST_BYTES = 8 << 20;

    @Param({"1", "10", "1000", "100000"})
    int extents;

    /** By the MMU: one run. By the table: extents shifted by 512 bytes, which no page table can place. */
    @Param({"mmu", "table"})
    String placed = "";

    private final PlainRing plain = new PlainRing(DEPTH);
    private final long[] sectors = new long[REQUESTS];
    private MemorySegment descriptors = MemorySegment.NULL;
    private int next;

    @SuppressWarnings("NullAway") // JMH calls set-up before anything else
    private DirectQueue queue = null;

    @Setup(Level.Trial)
    public void setUp() throws IOException {
        AddressSpace space = AddressSpace.map(placed.equals("mmu") ? placedByMmu() : placedByTable());
        if ((space.runs() == 1) != (placed.equals("mmu") || extents == 1)) {
            throw new IllegalStateException(space.runs() + " runs");
        }
        for (long unit = 0; unit < space.residency().units(); unit++) {
            space.residency().set(unit);
        }
        descriptors = Arena.global().allocate((long) DEPTH * UblkCmd.IO_DESC_BYTES, 64);
        for (int tag = 0; tag < DEPTH; tag++) {
            descriptors.set(JAVA_INT, (long) tag * UblkCmd.IO_DESC_BYTES + IoDesc.OP_FLAGS, UblkCmd.IO_OP_READ);
            descriptors.set(JAVA_INT, (long) tag * UblkCmd.IO_DESC_BYTES + IoDesc.NR_SECTORS, 8);
        }
        Random random = new Random(1);
        for (int i = 0; i < REQUESTS; i++) {
            sectors[i] = random.nextLong(space.size() / 4096) * 8;
        }
        DeviceInfo info =
                new DeviceInfo(0, 1, DEPTH, DeviceState.LIVE, 1 << 20, 0, Feature.CMD_IOCTL_ENCODE.bit(), 0, 0, 0);
        queue = new DirectQueue(3, info, 0, space, new QueueCounters(), plain.ring(), descriptors);
    }

    private int extentBytes() {
        return Math.max(8192, LEAST_BYTES / extents & -4096);
    }

    private FlatImage placedByMmu() {
        Bytes bytes = new Bytes("pattern", new byte[extentBytes()]);
        FlatImage.Builder flat = FlatImage.builder(4096);
        for (int i = 0; i < extents; i++) {
            if (i % 2 == 0) {
                flat.append(bytes.size(), bytes, 0);
            } else {
                flat.zeros(bytes.size());
            }
        }
        return flat.build();
    }

    private FlatImage placedByTable() throws IOException {
        int extent = extentBytes();
        int file = Linux.memoryFile("blob");
        Linux.truncate(file, (long) extent * (extents + 1));
        Blob blob = Blob.adopt(Path.of("blob"), file);
        FlatImage.Builder flat = FlatImage.builder(512);
        for (int i = extents; i-- > 0; ) {
            flat.append(extent, blob, (long) i * extent + 512);
        }
        return flat.build();
    }

    @Benchmark
    @OperationsPerInvocation(DEPTH)
    public int requests() throws IOException {
        int i = next;
        for (int tag = 0; tag < DEPTH; tag++) {
            descriptors.set(
                    JAVA_LONG, (long) tag * UblkCmd.IO_DESC_BYTES + IoDesc.START_SECTOR, sectors[i++ & REQUESTS - 1]);
            queue.serve(tag);
        }
        plain.take(DEPTH);
        next = i;
        return i;
    }
}

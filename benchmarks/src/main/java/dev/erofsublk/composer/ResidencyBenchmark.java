// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import dev.erofsublk.benchmarks.HotPath;
import java.util.Random;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Setup;

/**
 * What does it cost to ask whether a request is resident, and to say once that a unit is? At random places of a device of 64
 * GiB, of which all is resident. The bitmap has 128 KiB.
 */
public class ResidencyBenchmark extends HotPath {
    private static final long DEVICE = 64L << 30;
    private static final int REQUESTS = 1 << 10;

    /** Bytes of a request: of one unit, and of seventeen. */
    @Param({"4096", "1048576"})
    int bytes;

    private final Residency residency = new Residency(DEVICE);
    private final long[] positions = new long[REQUESTS];

    @Setup(Level.Trial)
    public void setUp() {
        Random random = new Random(1);
        for (int i = 0; i < REQUESTS; i++) {
            positions[i] = random.nextLong((DEVICE - bytes) / 4096) * 4096;
        }
        for (long unit = 0; unit < residency.units(); unit++) {
            residency.set(unit);
        }
    }

    @Benchmark
    @OperationsPerInvocation(REQUESTS)
    public int covers() {
        int covered = 0;
        for (long position : positions) {
            if (residency.covers(position, bytes)) {
                covered++;
            }
        }
        return covered;
    }

    /** As the completion of a populated request does it, on units that somebody else has set meanwhile. */
    @Benchmark
    @OperationsPerInvocation(REQUESTS)
    public long set() {
        for (long position : positions) {
            long last = (position + bytes - 1) >>> Residency.UNIT_SHIFT;
            for (long unit = position >>> Residency.UNIT_SHIFT; unit <= last; unit++) {
                residency.set(unit);
            }
        }
        return residency.missing();
    }
}

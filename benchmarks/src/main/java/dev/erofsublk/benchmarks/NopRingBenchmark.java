// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.benchmarks;

import dev.erofsublk.uring.IoUring;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Ring;
import dev.erofsublk.uring.Sqe;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.TearDown;

/** What does a turn of the ring cost, with the system call, by how many operations share it? Time of one turn. */
public class NopRingBenchmark extends HotPath {
    @Param({"1", "8", "32"})
    int batch;

    /** Whether the thread has the ring's descriptor registered. */
    @Param({"false", "true"})
    boolean registered;

    @SuppressWarnings("NullAway") // JMH calls set-up before anything else
    private Ring ring = null;

    @Setup
    public void setUp() throws LinuxException {
        ring = Ring.create(64, IoUring.QUEUE_SETUP);
        if (registered && !ring.registerDescriptor()) {
            throw new IllegalStateException("this kernel registers no rings");
        }
    }

    @TearDown
    public void tearDown() {
        ring.close();
    }

    @Benchmark
    public int turn() throws LinuxException {
        for (int i = 0; i < batch; i++) {
            long at = ring.nextSqe();
            Sqe.opcode(ring.sqes(), at, IoUring.IORING_OP_NOP);
        }
        ring.submitAndWait(batch);
        int ready = ring.ready();
        ring.consume(ready);
        return ready;
    }
}

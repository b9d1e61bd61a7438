// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.management.ThreadMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;

/** What the threads of a device's queues allocate on the Java heap while the device is read. */
final class QueueAllocation {
    private static final int WARM_UP_REQUESTS = 40_000;
    /** Of the warm-up, before compiling must have ended; alone in its JVM, a class needs 40 to 60 in a guest. */
    private static final int MOST_ROUNDS = 120;

    private final ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    private final Device device;
    private final long[] ids;

    QueueAllocation(Device device) {
        this.device = device;
        String prefix = "ublk" + device.info().id() + "-q";
        ids = Thread.getAllStackTraces().keySet().stream()
                .filter(thread -> thread.getName().startsWith(prefix))
                .mapToLong(Thread::threadId)
                .toArray();
        assertThat(ids).hasSize(device.info().queues());
    }

    /** Code that is not compiled yet does allocate: what must not is {@code requests} after two rounds that did not. */
    void assertNoneForRequests(int requests) throws Exception {
        for (int round = 0, idle = 0; idle < 2; round++) {
            assertThat(round).as("rounds of %d requests", WARM_UP_REQUESTS).isLessThan(MOST_ROUNDS);
            idle = allocatedFor(WARM_UP_REQUESTS) == 0 ? idle + 1 : 0;
        }
        assertThat(allocatedFor(requests)).as("bytes for %d requests", requests).isZero();
    }

    private long allocatedFor(int requests) throws IOException, InterruptedException {
        long before = allocated();
        readRandomly(requests);
        return allocated() - before;
    }

    private long allocated() {
        long sum = 0;
        for (long bytes : threads.getThreadAllocatedBytes(ids)) {
            sum += bytes;
        }
        return sum;
    }

    private void readRandomly(int reads) throws IOException, InterruptedException {
        int queues = device.info().queues();
        Process fio = new ProcessBuilder(
                        "fio",
                        "--name=read",
                        "--filename=" + device.info().blockPath(),
                        "--readonly",
                        "--rw=randread",
                        "--bs=4k",
                        "--ioengine=io_uring",
                        "--direct=1",
                        "--iodepth=32",
                        "--norandommap",
                        "--numjobs=" + queues,
                        "--number_ios=" + reads / queues,
                        "--size=100%",
                        "--io_size=1t")
                .redirectErrorStream(true)
                .start();
        String output = new String(fio.getInputStream().readAllBytes());
        assertThat(fio.waitFor()).as(output).isZero();
    }
}

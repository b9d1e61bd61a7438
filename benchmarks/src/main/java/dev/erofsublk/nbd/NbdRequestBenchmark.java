// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.erofsublk.benchmarks.HotPath;
import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.Sockets;
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
 * What does Java do for a request of NBD? From its 28 bytes to the header and addresses of its reply, as {@code sendmmsg}
 * would take them, without the system calls: 4 KiB reads at random places of a resident device.
 */
public class NbdRequestBenchmark extends HotPath {
    private static final int REQUESTS = 1 << 12;
    private static final long DEVICE = 64 << 20;

    /** Requests that have come when the server looks. */
    @Param({"1", "32"})
    int batch;

    /** Structured replies are what most clients ask for; the kernel knows only simple ones. */
    @Param({"false", "true"})
    boolean structured;

    private final MemorySegment requests = Arena.global().allocate((long) (REQUESTS + 1) * Nbd.REQUEST_BYTES, 8);

    @SuppressWarnings("NullAway") // JMH calls set-up before anything else
    private Session session = null;

    @SuppressWarnings("NullAway")
    private Inbox inbox = null;

    @SuppressWarnings("NullAway")
    private Transmission transmission = null;

    private final Client client = new Client();

    /** Sends all requests, a batch at a time, and takes every reply without a look at it. */
    private final class Client implements Wire {
        private int next;

        @Override
        public int read(MemorySegment target, long at, int length) {
            int count = Math.min(batch, REQUESTS + 1 - next);
            int bytes = count * Nbd.REQUEST_BYTES;
            MemorySegment.copy(requests, (long) next * Nbd.REQUEST_BYTES, target, at, bytes);
            next += count;
            return bytes;
        }

        @Override
        public void write(MemorySegment bytes) {
            throw new IllegalStateException("replies are sent as messages");
        }

        @Override
        public int send(MemorySegment messages, int count) {
            messages.set(JAVA_INT, (count - 1L) * Sockets.MMSGHDR_BYTES + Sockets.MSG_LEN, Integer.MAX_VALUE);
            return count;
        }

        @Override
        public boolean isAtomic() {
            return true; // as on the socket pair of /dev/nbdN
        }
    }

    @Setup(Level.Trial)
    public void setUp() throws IOException {
        int file = Linux.memoryFile("blob");
        Linux.truncate(file, DEVICE);
        FlatImage flat = FlatImage.builder(4096)
                .append(DEVICE, Blob.adopt(Path.of("blob"), file), 0)
                .build();
        Export export = new Export("", "", AddressSpace.map(flat));
        if (!export.load(0, DEVICE)) {
            throw new IllegalStateException("not resident");
        }
        session = new Session(export, structured, false);
        Random random = new Random(1);
        for (int i = 0; i <= REQUESTS; i++) {
            long at = (long) i * Nbd.REQUEST_BYTES;
            requests.set(Nbd.INT, at, Nbd.REQUEST_MAGIC);
            requests.set(Nbd.SHORT, at + 6, (short) (i < REQUESTS ? Nbd.CMD_READ : Nbd.CMD_DISC));
            requests.set(Nbd.LONG, at + 8, i);
            requests.set(Nbd.LONG, at + 16, random.nextLong(DEVICE / 4096) * 4096);
            requests.set(Nbd.INT, at + 24, 4096);
        }
        inbox = new Inbox(Arena.global(), client);
        transmission = Transmission.over(Arena.global(), client, false, inbox, session);
    }

    @Benchmark
    @OperationsPerInvocation(REQUESTS)
    public long requests() throws IOException {
        client.next = 0;
        transmission.run();
        return inbox.available();
    }
}

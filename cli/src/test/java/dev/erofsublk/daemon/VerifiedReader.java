// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.time.LocalTime;
import java.util.concurrent.Callable;

/** Reads a device from end to end, again and again, past the page cache, and compares. */
final class VerifiedReader implements AutoCloseable {
    private static final int LENGTH = 64 << 10;
    /** Readers without a pause leave next to nothing of an emulated guest's two CPUs to a JVM that starts. */
    private static final long PAUSE_MILLIS = 3;

    private static final long JOIN_MILLIS = 60_000;

    private final String device;
    private final byte[] expected;
    private final int fd;
    private final Thread thread;
    private volatile boolean stop;
    private volatile long reads;
    private volatile Throwable failure;

    VerifiedReader(String device, byte[] expected) throws IOException {
        this.device = device;
        this.expected = expected;
        fd = Linux.open(device, Linux.O_RDONLY | Linux.O_DIRECT);
        thread = Thread.ofPlatform().name("reader").daemon().start(this::run);
    }

    private void run() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment target = arena.allocate(LENGTH, 4096);
            MemorySegment wanted = MemorySegment.ofArray(expected);
            for (long at = 0; !stop; at = at + LENGTH < expected.length ? at + LENGTH : 0) {
                long length = Math.min(LENGTH, expected.length - at);
                assertThat(Linux.read(fd, target.asSlice(0, length), at)).isEqualTo(length);
                assertThat(target.asSlice(0, length).mismatch(wanted.asSlice(at, length)))
                        .isEqualTo(-1);
                reads++;
                Thread.sleep(PAUSE_MILLIS);
            }
        } catch (Throwable e) {
            failure = new AssertionError(
                    "%s, read %d, at %s: %s".formatted(device, reads, LocalTime.now(), e.getMessage()), e);
        }
    }

    long reads() {
        return reads;
    }

    /** What ended it, other than {@link #close}; null if nothing did. */
    Throwable failure() {
        return failure;
    }

    /** Waits for {@code n} more reads, or for its failure. */
    void awaitMore(int n) throws Exception {
        long enough = reads + n;
        await(() -> reads >= enough || failure != null);
    }

    /** Ends it and fails if it had failed. */
    void assertWell() throws Exception {
        awaitMore(2);
        close();
        assertThat(failure).isNull();
    }

    @Override
    public void close() throws IOException {
        if (stop) {
            return;
        }
        stop = true;
        try {
            thread.join(JOIN_MILLIS);
        } catch (InterruptedException e) {
            throw new IOException(e);
        }
        if (!thread.isAlive()) { // of a device without a server it waits for ever
            Linux.close(fd);
        }
    }

    /** Waits up to three minutes: a guest on a busy machine is slow. */
    static void await(Callable<Boolean> condition) throws Exception {
        for (int tries = 0; !condition.call(); tries++) {
            assertThat(tries).as("tries of 10 ms").isLessThan(18_000);
            Thread.sleep(10);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.util.Arrays;
import java.util.BitSet;
import java.util.concurrent.locks.LockSupport;

/**
 * How long it takes on this machine to wake a thread that sleeps on another processor, and to be woken by it in turn.
 *
 * <p>For that long, a queue looks out for requests by default before it sleeps: a reader that asks for one block after the other is
 * woken and then asks, and to be woken by it is what the queue saves. Who waits no longer than a sleep would cost pays at most twice
 * of what would have been best, whatever comes. KVM does the same for processors that halt, for up to 200 us (virt/kvm/kvm_main.c,
 * halt_poll_ns).
 */
final class WakeTime {
    private static final int ROUNDS = 31;
    /** Long enough for a processor to be as asleep as it is between two requests. */
    private static final long REST_NANOS = 500_000;
    /** Beyond this a machine was busy with something else, or sleeps so deeply that nobody waits for it. */
    private static final long MOST_NANOS = 200_000;

    private static final int PROCESSORS = 4096;

    private static long measured;

    private final Thread caller = Thread.currentThread();
    private volatile int turn;

    private WakeTime() {}

    /**
     * Nanoseconds there and back, 1 to 200,000. Measured once, which takes 20 ms and binds the calling platform thread to a
     * processor: without that, half of the time both threads are on the same one, where waking is a mere switch.
     */
    static synchronized long roundTripNanos() throws LinuxException {
        if (measured == 0) {
            int here = bind(0);
            measured = Math.clamp(new WakeTime().measure(here + 1), 1, MOST_NANOS);
        }
        return measured;
    }

    /** Binds the calling thread to the first processor from {@code least} on that it may run on. */
    private static int bind(int least) throws LinuxException {
        for (int processor = least; ; processor++) {
            BitSet one = new BitSet();
            one.set(processor);
            try {
                Linux.setAffinity(one);
                return processor;
            } catch (LinuxException e) {
                if (processor == PROCESSORS) {
                    throw e;
                }
            }
        }
    }

    private long measure(int leastOther) {
        Thread other = Thread.ofPlatform().name("ublk-wake").daemon().start(() -> answer(leastOther));
        long[] nanos = new long[ROUNDS];
        for (int round = 0; round < ROUNDS; round++) {
            LockSupport.parkNanos(this, REST_NANOS);
            long start = System.nanoTime();
            turn = 2 * round + 1;
            LockSupport.unpark(other);
            await(2 * round + 2);
            nanos[round] = System.nanoTime() - start;
        }
        Arrays.sort(nanos);
        return nanos[ROUNDS / 2];
    }

    private void answer(int leastProcessor) {
        try {
            bind(leastProcessor);
        } catch (LinuxException thereIsOnlyOne) {
            // then waking is a switch indeed
        }
        for (int round = 0; round < ROUNDS; round++) {
            await(2 * round + 1);
            turn = 2 * round + 2;
            LockSupport.unpark(caller);
        }
    }

    private void await(int whose) {
        while (turn != whose) {
            LockSupport.park(this);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import java.util.Arrays;
import java.util.concurrent.locks.LockSupport;

/**
 * How long it takes on this machine to wake a thread that sleeps, and to be woken by it in turn.
 *
 * <p>For twice that, a queue looks out for requests by default before it sleeps. A reader that asks for one block after the other
 * is woken, does its work, and asks: once the time for waking it and the queue, and once for its work. Who waits no longer than
 * what a sleep would cost pays at most twice of what would have been best, whatever comes; and who waits twice as long, three
 * times. KVM does the same for processors that halt, for up to 200 us (virt/kvm/kvm_main.c, halt_poll_ns).
 */
final class WakeTime {
    private static final int ROUNDS = 31;
    /** Long enough for a processor to be as asleep as it is between two requests. */
    private static final long REST_NANOS = 500_000;
    /** Beyond this a machine was busy with something else, or sleeps so deeply that nobody waits for it. */
    private static final long MOST_NANOS = 100_000;

    private static long measured;

    private final Thread caller = Thread.currentThread();
    private volatile int turn;

    private WakeTime() {}

    /** Nanoseconds there and back, 1 to 100,000; measured once, which takes 20 ms. Thread-safe. */
    static synchronized long roundTripNanos() {
        if (measured == 0) {
            measured = Math.clamp(new WakeTime().measure(), 1, MOST_NANOS);
        }
        return measured;
    }

    private long measure() {
        Thread other = Thread.ofPlatform().name("ublk-wake").daemon().start(this::answer);
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

    private void answer() {
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

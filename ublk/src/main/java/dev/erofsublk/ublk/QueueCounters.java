// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.util.ArrayList;
import java.util.List;

/**
 * What one queue has done so far: written by its thread alone, read by anyone at any time.
 *
 * <p>Opaque stores, which cost what plain ones do on x86 and arm64; nothing is locked and no cache line is shared with
 * another queue. A reader may see one number a turn older than another, and never half of one.
 *
 * <p>Times are of a sample, one turn of the queue in {@link #SAMPLE_TURNS}, from the moment the kernel handed its
 * requests over until it had taken all their bytes: measured on every turn it would cost the hot path a second system
 * call.
 */
final class QueueCounters {
    /** Every how many turns the time is taken; a power of two. */
    static final int SAMPLE_TURNS = 64;
    /** Bucket {@code i} counts times up to {@code 2^i} microseconds; the last also those beyond, 8 s. */
    static final int BUCKETS = 24;

    private static final VarHandle LONGS = MethodHandles.arrayElementVarHandle(long[].class);
    private static final int LINE = 16; // longs in two cache lines: the second is prefetched with the first
    private static final int REQUESTS = LINE;
    private static final int BYTES = LINE + 1;
    private static final int ERRORS = LINE + 2;
    private static final int ERROR_OFFSET = LINE + 3;
    private static final int SAMPLE_NANOS = LINE + 4;
    private static final int COLD = LINE + 5;
    private static final int FIRST_BUCKET = LINE + 6;

    private final long[] values = new long[FIRST_BUCKET + BUCKETS + LINE];

    /** Adds what one turn did. */
    void turn(int requests, long bytes) {
        add(REQUESTS, requests);
        add(BYTES, bytes);
    }

    /** Adds a read that was answered with an error, at byte {@code offset} of the device. */
    void error(long offset) {
        LONGS.setOpaque(values, ERROR_OFFSET, offset);
        // Release pairs with the acquire in addTo: whoever sees the count sees where the error was, or a later one.
        LONGS.setRelease(values, ERRORS, values[ERRORS] + 1);
    }

    /** Adds a request whose bytes have to be brought in first. */
    void cold() {
        add(COLD, 1);
    }

    /** Adds {@code requests} that took {@code nanos} each. */
    void sample(int requests, long nanos) {
        long micros = nanos / 1000;
        int bucket = micros <= 1 ? 0 : Math.min(Long.SIZE - Long.numberOfLeadingZeros(micros - 1), BUCKETS - 1);
        add(FIRST_BUCKET + bucket, requests);
        add(SAMPLE_NANOS, requests * nanos);
    }

    private void add(int index, long n) {
        LONGS.setOpaque(values, index, values[index] + n);
    }

    /** Adds up what is known of several queues. */
    DeviceCounters plus(DeviceCounters sum) {
        long errors = (long) LONGS.getAcquire(values, ERRORS);
        List<Long> buckets = new ArrayList<>(BUCKETS);
        for (int i = 0; i < BUCKETS; i++) {
            buckets.add(sum.sampledMicros().get(i) + get(FIRST_BUCKET + i));
        }
        return new DeviceCounters(
                sum.requests() + get(REQUESTS),
                sum.bytes() + get(BYTES),
                sum.errors() + errors,
                errors > 0 ? get(ERROR_OFFSET) : sum.lastErrorOffset(),
                sum.coldReads() + get(COLD),
                buckets,
                sum.sampledNanos() + get(SAMPLE_NANOS));
    }

    private long get(int index) {
        return (long) LONGS.getOpaque(values, index);
    }
}

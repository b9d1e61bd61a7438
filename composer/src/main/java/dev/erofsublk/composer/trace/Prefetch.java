// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.trace;

import dev.erofsublk.composer.FirstTouches;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Brings in what an {@link AccessTrace} names, in its order, on threads of its own and beside those that serve.
 *
 * <p>{@value #LANES} pieces at a time: enough to keep a disk busy, and few enough that a read which nobody foresaw does not
 * wait behind many. Units that are neighbours on the device and were read at about the same time come in one piece.
 */
public final class Prefetch implements AutoCloseable {
    static final int LANES = 4;
    /** Units of a piece, 1 MiB: how long a piece takes is how long {@link #close} does. */
    static final int PIECE = 16;
    /** So many runs of the trace are put in the device's order: two readers that went forward side by side. */
    private static final int WINDOW = 64;

    private static final long STACK_BYTES = 256 << 10;

    private final long[] pieces;
    private final long size;
    private final Loader loader;
    private final AtomicInteger next = new AtomicInteger();
    private final AtomicLong left = new AtomicLong();
    private final Thread[] lanes;
    private volatile boolean closed;

    /** Brings bytes of a device in. */
    @FunctionalInterface
    public interface Loader {
        /** Waits until {@code [offset, offset + bytes)} is in memory; whether it is. Any thread. */
        boolean load(long offset, long bytes);
    }

    private Prefetch(String name, AccessTrace trace, long size, Loader loader) {
        this.size = size;
        this.loader = loader;
        pieces = plan(trace.runs());
        for (long piece : pieces) {
            left.addAndGet(FirstTouches.count(piece));
        }
        lanes = new Thread[Math.min(LANES, pieces.length)];
        for (int i = 0; i < lanes.length; i++) {
            lanes[i] = Thread.ofPlatform()
                    .name(name + "-prefetch-" + i)
                    .stackSize(STACK_BYTES)
                    .daemon()
                    .unstarted(this::run);
        }
    }

    /**
     * Begins.
     *
     * @param name of the threads
     * @param size bytes of the device
     */
    public static Prefetch start(String name, AccessTrace trace, long size, Loader loader) {
        Prefetch prefetch = new Prefetch(name, trace, size, loader);
        for (Thread lane : prefetch.lanes) {
            lane.start();
        }
        return prefetch;
    }

    /** The runs of a trace as pieces of at most {@link #PIECE} units, neighbours merged. */
    static long[] plan(long[] runs) {
        long[] pieces = new long[Math.max(16, runs.length)];
        int n = 0;
        for (int from = 0; from < runs.length; from += WINDOW) {
            long[] window = Arrays.copyOfRange(runs, from, Math.min(runs.length, from + WINDOW));
            Arrays.sort(window); // by first units
            int begin = n;
            for (long run : window) {
                long first = FirstTouches.first(run);
                long end = first + FirstTouches.count(run);
                if (n > begin) {
                    long before = pieces[n - 1];
                    long behind = FirstTouches.first(before) + FirstTouches.count(before);
                    if (first <= behind && end > behind) {
                        int more = (int) Math.min(end - behind, PIECE - FirstTouches.count(before));
                        pieces[n - 1] += more;
                        first = behind + more;
                    } else if (end <= behind) {
                        continue;
                    }
                }
                for (; first < end; first += PIECE) {
                    if (n == pieces.length) {
                        pieces = Arrays.copyOf(pieces, 2 * n);
                    }
                    pieces[n++] = FirstTouches.run(first, (int) Math.min(PIECE, end - first));
                }
            }
        }
        return Arrays.copyOf(pieces, n);
    }

    private void run() {
        for (int i = next.getAndIncrement(); i < pieces.length && !closed; i = next.getAndIncrement()) {
            long offset = FirstTouches.first(pieces[i]) * FirstTouches.UNIT_BYTES;
            long bytes = (long) FirstTouches.count(pieces[i]) * FirstTouches.UNIT_BYTES;
            try {
                // If it fails, whoever wants the bytes will see why.
                loader.load(offset, Math.min(bytes, size - offset));
            } catch (RuntimeException defect) { // of a decoder: the other pieces can do without
                System.getLogger(Prefetch.class.getName())
                        .log(System.Logger.Level.ERROR, "prefetch at byte " + offset + " failed", defect);
            } finally {
                left.addAndGet(-FirstTouches.count(pieces[i]));
            }
        }
    }

    /** How many units have not been brought in yet; does not change any more once it is closed. */
    public long left() {
        return left.get();
    }

    /** Stops, and waits for the pieces that are on their way. May be called twice. */
    @Override
    public void close() {
        closed = true;
        boolean interrupted = false;
        for (Thread lane : lanes) {
            while (lane.isAlive()) {
                try {
                    lane.join();
                } catch (InterruptedException e) {
                    interrupted = true;
                }
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}

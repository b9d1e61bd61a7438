// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/**
 * Decoding for one queue, by a few threads that all queues of the process share: they work, and this tells the queue's
 * thread, which sleeps in its ring, through an event.
 */
final class Decoding implements AutoCloseable {
    private static final ThreadPoolExecutor WORKERS = workers();
    private static final DamageLog DAMAGE = new DamageLog(
            message -> System.getLogger(Decoding.class.getName()).log(System.Logger.Level.ERROR, message));

    private final AddressSpace space;
    private final Queue<Answer> inbox = new ConcurrentLinkedQueue<>();
    private final int event;
    private boolean closed;

    /** What became of a request: whether the bytes that {@code tag} asked for can be copied now. */
    record Answer(int tag, boolean readable) {}

    Decoding(AddressSpace space) throws LinuxException {
        this.space = space;
        event = Linux.event();
    }

    private static ThreadPoolExecutor workers() {
        int threads = Runtime.getRuntime().availableProcessors();
        AtomicInteger number = new AtomicInteger();
        ThreadPoolExecutor workers =
                new ThreadPoolExecutor(threads, threads, 10, TimeUnit.SECONDS, new LinkedBlockingQueue<>(), task -> {
                    Thread thread = new Thread(task, "decode-" + number.incrementAndGet());
                    thread.setDaemon(true);
                    return thread;
                });
        workers.allowCoreThreadTimeOut(true); // a server that has everything decoded needs no such threads
        return workers;
    }

    /** The descriptor that becomes readable when {@link #poll} has something; eight bytes are to be read then. */
    int event() {
        return event;
    }

    /**
     * Has the units from {@code first} to {@code last} decoded; where that fails, just the bytes of the request itself.
     * The answer comes through {@link #poll}.
     */
    void request(int tag, long first, long last, long offset, long bytes) {
        WORKERS.execute(() -> {
            boolean readable = false;
            try {
                readable = decode(first, last, offset, bytes);
            } finally {
                answer(new Answer(tag, readable)); // whatever a decoder does, the request is answered
            }
        });
    }

    private boolean decode(long first, long last, long offset, long bytes) {
        try {
            for (long unit = first; unit <= last; unit++) {
                space.decode(unit);
            }
            return true;
        } catch (IOException damaged) {
            return decodeExactly(offset, bytes);
        }
    }

    private boolean decodeExactly(long offset, long bytes) {
        try {
            space.decode(offset, bytes);
            return true;
        } catch (IOException damaged) {
            DAMAGE.say(String.valueOf(damaged.getMessage()), System.nanoTime());
            return false;
        }
    }

    private synchronized void answer(Answer answer) {
        if (closed) {
            return; // the event's number may be another file's by now
        }
        inbox.add(answer);
        try {
            Linux.raise(event);
        } catch (LinuxException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    /** The next answer, or null; on the queue's thread. */
    @Nullable
    Answer poll() {
        return inbox.poll();
    }

    @Override
    public synchronized void close() {
        if (!closed) {
            closed = true;
            Linux.close(event);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.cache;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Decoded;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.function.LongConsumer;
import org.jspecify.annotations.Nullable;

/**
 * Decoded bytes, in a cache file that fills on demand.
 *
 * <p>Thread-safe. A piece is decoded by one thread of this source, while others that need it wait for that; another
 * source over the same file, in this process or another, may do the same work at the same moment, which costs time and
 * nothing else. What a call to {@link #ensure} has brought stays: pieces are never evicted.
 */
public final class CachedSource implements Decoded {
    /** How many bytes may wait for being made durable before a thread of their own does so. */
    private static final long SYNC_BYTES = 64L << 20;

    private final CacheFile file;
    private final Pieces pieces;
    private final PieceDecoder decoder;
    private final AtomicLongArray present; // a bit for each piece
    private final ConcurrentHashMap<Integer, CompletableFuture<Void>> atWork = new ConcurrentHashMap<>(); // by group

    private final Object unsyncedLock = new Object();
    private List<Integer> unsynced = new ArrayList<>();
    private long unsyncedBytes;
    private @Nullable Thread syncer;
    private volatile @Nullable IOException lost;
    private boolean closed;

    CachedSource(CacheFile file, Pieces pieces, PieceDecoder decoder) throws IOException {
        this.file = file;
        this.pieces = pieces;
        this.decoder = decoder;
        present = new AtomicLongArray((pieces.count() + 63) >>> 6);
        try {
            file.forEachRecorded(this::markPresent);
        } catch (IOException | RuntimeException e) {
            file.close();
            throw e;
        }
    }

    @Override
    public String name() {
        return decoder.name();
    }

    @Override
    public long size() {
        return pieces.size();
    }

    @Override
    public Blob cache() {
        return file.blob();
    }

    @Override
    public int unit() {
        return pieces.unit();
    }

    /** How the bytes are cut. */
    public Pieces pieces() {
        return pieces;
    }

    /** How many pieces are decoded so far. */
    public int presentCount() {
        int count = 0;
        for (int i = 0; i < present.length(); i++) {
            count += Long.bitCount(present.getAcquire(i));
        }
        return count;
    }

    @Override
    public boolean present(long offset, long length) {
        Objects.checkFromIndexSize(offset, length, size());
        if (length == 0) {
            return true;
        }
        long end = offset + length;
        int piece = pieces.indexOf(offset);
        do {
            if (!isPresent(piece)) {
                return false;
            }
        } while (pieces.start(++piece) < end);
        return true;
    }

    @Override
    public void ensure(long offset, long length) throws IOException {
        Objects.checkFromIndexSize(offset, length, size());
        if (length == 0) {
            return;
        }
        IOException loss = lost;
        if (loss != null) {
            throw new IOException(name() + ": the cache lost bytes: " + loss.getMessage(), loss);
        }
        long end = offset + length;
        int piece = pieces.indexOf(offset);
        do {
            if (!isPresent(piece)) {
                bring(piece);
            }
        } while (pieces.start(++piece) < end);
    }

    @Override
    public void read(long offset, MemorySegment target) throws IOException {
        ensure(offset, target.byteSize());
        file.blob().read(offset, target);
    }

    /** Decodes everything, present or not, without keeping it; see {@link DecodeCheck#run}. */
    public boolean verify(LongConsumer progress, DecodeCheck.Problems problems) {
        return DecodeCheck.run(pieces, decoder, progress, problems);
    }

    private boolean isPresent(int piece) {
        // Acquire: pairs with the release in markPresent, so that who sees the bit sees the written file.
        return (present.getAcquire(piece >>> 6) & 1L << piece) != 0;
    }

    private void markPresent(int piece) {
        int word = piece >>> 6;
        long before = present.getPlain(word);
        while (true) {
            long witness = present.compareAndExchangeRelease(word, before, before | 1L << piece);
            if (witness == before) {
                return;
            }
            before = witness;
        }
    }

    private void bring(int piece) throws IOException {
        Integer group = decoder.group(piece);
        while (!isPresent(piece)) {
            CompletableFuture<Void> mine = new CompletableFuture<>();
            CompletableFuture<Void> others = atWork.putIfAbsent(group, mine);
            if (others != null) {
                await(others, piece);
                continue;
            }
            try {
                // Asked again as the one who may decode: another may have finished between the look and the claim.
                if (!isPresent(piece)) {
                    decode(piece);
                }
                atWork.remove(group); // before anyone is woken, who would find the claim still there
                mine.complete(null);
            } catch (Throwable e) {
                atWork.remove(group);
                mine.completeExceptionally(e);
                throw e;
            }
        }
    }

    /** Waits for another thread's work on the group; its failure is ours only if it failed over the same piece. */
    private static void await(CompletableFuture<Void> others, int piece) throws IOException {
        try {
            others.join();
        } catch (CompletionException e) {
            if (e.getCause() instanceof DecodeException failure && failure.piece() == piece) {
                throw new DecodeException(failure);
            }
        }
    }

    private void decode(int piece) throws IOException {
        if (file.recorded(piece)) { // by another process, or another device of this one
            markPresent(piece);
            return;
        }
        decoder.decode(piece, new PieceDecoder.Sink() {
            @Override
            public boolean wants(int other) {
                return !isPresent(other);
            }

            @Override
            public void put(int other, MemorySegment bytes) throws IOException {
                file.write(other, bytes);
                markPresent(other);
                written(other);
            }
        });
        if (!isPresent(piece)) {
            throw new IllegalStateException(name() + ": the decoder did not hand over piece " + piece);
        }
    }

    private void written(int piece) {
        synchronized (unsyncedLock) {
            unsynced.add(piece);
            unsyncedBytes += pieces.length(piece);
            if (unsyncedBytes >= SYNC_BYTES && syncer == null && !closed) {
                syncer = Thread.ofPlatform().daemon().name("cache-sync").start(this::syncInBackground);
            }
        }
    }

    private void syncInBackground() {
        try {
            sync();
        } catch (IOException e) {
            lost = e; // sync() has seen to the record; from here on readers get the error
        } finally {
            synchronized (unsyncedLock) {
                syncer = null;
            }
        }
    }

    /**
     * Makes what is decoded so far survive a crash of the machine too. Happens by itself every 64 MiB and on
     * {@link #close()}; a crash of the process loses nothing anyway.
     *
     * @throws IOException if the disk lost some of it, which is then forgotten by the record
     */
    public void sync() throws IOException {
        List<Integer> batch;
        synchronized (unsyncedLock) {
            batch = unsynced;
            unsynced = new ArrayList<>();
            unsyncedBytes = 0;
        }
        if (batch.isEmpty()) {
            return;
        }
        try {
            file.sync();
        } catch (IOException e) {
            lost = e;
            for (int piece : batch) {
                file.forget(piece);
            }
            throw e;
        }
        for (int piece : batch) {
            file.recordDurable(piece);
        }
    }

    /** Makes durable what it can, and closes the cache file and the decoder. No other call may be under way. */
    @Override
    public void close() {
        Thread running;
        synchronized (unsyncedLock) {
            if (closed) {
                return;
            }
            closed = true;
            running = syncer;
        }
        boolean interrupted = false;
        while (running != null && running.isAlive()) {
            try {
                running.join();
            } catch (InterruptedException e) {
                interrupted = true; // the descriptor must not be closed under the other thread
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
        try {
            sync();
        } catch (IOException e) {
            lost = e; // the record says so; there is nobody left to tell
        }
        file.close();
        decoder.close();
    }

    @Override
    public String toString() {
        return "CachedSource[" + name() + ", " + presentCount() + " of " + pieces.count() + " pieces]";
    }
}

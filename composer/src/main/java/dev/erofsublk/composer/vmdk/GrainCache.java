// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Decoded;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicLongArray;

/**
 * A decoded source over a {@link UnitDecoder}: an unlinked sparse temporary file, and a bit for each unit in it.
 *
 * <p>Thread-safe. A unit is decoded once: whoever comes second waits for the first.
 */
final class GrainCache implements Decoded {
    private static final int LOCKS = 64;

    private final String name;
    private final int unit;
    private final long size;
    private final UnitDecoder decoder;
    private final Blob cache;
    private final AtomicLongArray present;
    private final Object[] locks = new Object[LOCKS];

    private GrainCache(String name, long size, int unit, UnitDecoder decoder, Blob cache) {
        this.name = name;
        this.unit = unit;
        this.size = size;
        this.decoder = decoder;
        this.cache = cache;
        present = new AtomicLongArray((int) (size / unit / Long.SIZE + 1));
        for (int i = 0; i < LOCKS; i++) {
            locks[i] = new Object();
        }
    }

    /**
     * @param name of the source
     * @param units how many there are
     * @param unit bytes of each: a power of two, at least a page
     */
    static GrainCache create(String name, long units, int unit, UnitDecoder decoder) throws IOException {
        Path path = Files.createTempFile("erofs-ublk-grains-", ".cache");
        int fd;
        try {
            fd = Linux.open(path.toString(), Linux.O_RDWR);
        } finally {
            Files.delete(path);
        }
        try {
            long size = units * unit;
            Linux.truncate(fd, size);
            return new GrainCache(name, size, unit, decoder, Blob.adopt(path, fd));
        } catch (IOException | RuntimeException e) {
            Linux.close(fd);
            throw e;
        }
    }

    @Override
    public Blob cache() {
        return cache;
    }

    @Override
    public int unit() {
        return unit;
    }

    @Override
    public boolean present(long offset, long length) {
        for (long u = offset / unit; u * unit < offset + length; u++) {
            if (!present(u)) {
                return false;
            }
        }
        return true;
    }

    private boolean present(long u) {
        // Acquire: pairs with the release in mark(), so that who sees the bit finds the bytes in the file.
        return (present.getAcquire((int) (u >>> 6)) >>> u & 1) != 0;
    }

    @Override
    public void ensure(long offset, long length) throws IOException {
        for (long u = offset / unit; u * unit < offset + length; u++) {
            if (!present(u)) {
                synchronized (locks[(int) (u % LOCKS)]) {
                    if (!present(u)) {
                        decode(u);
                    }
                }
            }
        }
    }

    private void decode(long u) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocate(unit, 8);
            decoder.decode(u, bytes);
            Linux.write(cache.fd(), bytes, u * unit);
        }
        mark(u);
    }

    private void mark(long u) {
        int word = (int) (u >>> 6);
        long bit = 1L << u;
        long seen = present.getPlain(word);
        while ((seen & bit) == 0) {
            long witness = present.compareAndExchangeRelease(word, seen, seen | bit); // pairs with present()
            if (witness == seen) {
                return;
            }
            seen = witness;
        }
    }

    @Override
    public String name() {
        return name;
    }

    @Override
    public long size() {
        return size;
    }

    @Override
    public void read(long offset, MemorySegment target) throws IOException {
        ensure(offset, target.byteSize());
        cache.read(offset, target);
    }

    @Override
    public void close() {
        cache.close();
    }
}

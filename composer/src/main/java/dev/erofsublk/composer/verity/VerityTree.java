// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.verity;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Zeros;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestException;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.LongConsumer;

/**
 * The dm-verity hash tree of a flat image, in a file without a name.
 *
 * <p>Built in one pass over the data by as many threads as are asked for, each with 8 MiB of memory, whatever the size
 * of the image.
 */
public final class VerityTree {
    /** Bytes of data a thread takes at a time: a whole number of hash blocks for either size of data block. */
    private static final int UNIT = 4 << 20;
    /** A tree up to this is kept in memory: that of 32 GiB of data. */
    private static final long IN_MEMORY = 256L << 20;

    private final VerityGeometry geometry;
    private final Salt salt;
    private final byte[] root;
    private final Blob blob;

    private VerityTree(VerityGeometry geometry, Salt salt, byte[] root, Blob blob) {
        this.geometry = geometry;
        this.salt = salt;
        this.root = root;
        this.blob = blob;
    }

    /**
     * Builds the tree of {@code flat}.
     *
     * @param threads 1 or more
     * @param progress gets the bytes of data hashed so far, from any of the threads
     * @throws IOException if data cannot be read, or the tree not be written
     */
    public static VerityTree build(FlatImage flat, int dataBlockSize, Salt salt, int threads, LongConsumer progress)
            throws IOException {
        VerityGeometry geometry = VerityGeometry.of(flat.size(), dataBlockSize);
        int fd = unnamedFile(geometry.treeBytes());
        try {
            Linux.truncate(fd, geometry.treeBytes());
            Builder builder = new Builder(flat, geometry, salt.bytes(), fd);
            builder.hashData(threads, progress);
            byte[] root = builder.hashLevels();
            return new VerityTree(geometry, salt, root, Blob.ofOwnFile("(verity tree)", fd));
        } catch (IOException | RuntimeException e) {
            Linux.close(fd);
            throw e;
        }
    }

    private static int unnamedFile(long bytes) throws IOException {
        if (bytes <= IN_MEMORY) {
            return Linux.memoryFile("erofs-ublk-verity");
        }
        Path file = Files.createTempFile("erofs-ublk-verity", null);
        try {
            return Linux.open(file.toString(), Linux.O_RDWR);
        } finally {
            Files.delete(file);
        }
    }

    public VerityGeometry geometry() {
        return geometry;
    }

    /** The digest that vouches for everything: 64 hexadecimal digits. */
    public String rootHash() {
        return HexFormat.of().formatHex(root);
    }

    public Salt salt() {
        return salt;
    }

    /** The tree's bytes; the caller's to close. */
    public Blob blob() {
        return blob;
    }

    /**
     * The command that opens the device for use.
     *
     * @param device path of the file or block device that holds data and tree
     * @param name of the mapping under /dev/mapper
     */
    public String openCommand(String device, String name) {
        return "veritysetup open %s %s %s %s %s".formatted(device, name, device, rootHash(), options());
    }

    /** The options that {@code veritysetup} needs besides devices and root hash. */
    public String options() {
        return ("--no-superblock --format=1 --hash=sha256 --data-block-size=%d --hash-block-size=%d --data-blocks=%d"
                        + " --hash-offset=%d --salt=%s")
                .formatted(
                        geometry.dataBlockSize(),
                        VerityGeometry.HASH_BLOCK,
                        geometry.dataBlocks(),
                        geometry.treeOffset(),
                        salt);
    }

    /** The work, and what only it needs. */
    private static final class Builder {
        private final FlatImage flat;
        private final VerityGeometry geometry;
        private final byte[] salt;
        private final int fd;
        private final int block;
        private final byte[] zeroDigest;
        private final AtomicLong nextUnit = new AtomicLong();
        private final AtomicLong hashed = new AtomicLong();

        Builder(FlatImage flat, VerityGeometry geometry, byte[] salt, int fd) {
            this.flat = flat;
            this.geometry = geometry;
            this.salt = salt;
            this.fd = fd;
            block = geometry.dataBlockSize();
            zeroDigest = new byte[VerityGeometry.DIGEST];
            hash(sha256(), new byte[block], 0, block, zeroDigest, 0);
        }

        void hashData(int threads, LongConsumer progress) throws IOException {
            if (geometry.levels().isEmpty()) {
                return;
            }
            List<Future<?>> results = new ArrayList<>();
            try (var pool = Executors.newFixedThreadPool(
                    threads, Thread.ofPlatform().name("verity-", 0).factory())) {
                for (int i = 0; i < threads; i++) {
                    results.add(pool.submit(() -> {
                        hashUnits(progress);
                        return null;
                    }));
                }
            }
            for (Future<?> result : results) {
                try {
                    result.get();
                } catch (ExecutionException e) {
                    if (e.getCause() instanceof IOException failed) {
                        throw failed;
                    }
                    throw new IllegalStateException(e.getCause());
                } catch (InterruptedException e) {
                    throw new IllegalStateException(e); // they have all ended
                }
            }
        }

        private void hashUnits(LongConsumer progress) throws IOException {
            MessageDigest digest = sha256();
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment buffer = arena.allocate(UNIT, 4096);
                byte[] data = new byte[UNIT];
                MemorySegment digests = arena.allocate((long) UNIT / block * VerityGeometry.DIGEST, 4096);
                byte[] bytes = new byte[(int) digests.byteSize()];
                long total = geometry.dataBlocks() * block;
                for (long at; (at = nextUnit.getAndIncrement() * UNIT) < total; ) {
                    int length = (int) Math.min(UNIT, total - at);
                    int count = length / block;
                    if (isHole(at, length)) {
                        for (int i = 0; i < count; i++) {
                            System.arraycopy(zeroDigest, 0, bytes, i * VerityGeometry.DIGEST, VerityGeometry.DIGEST);
                        }
                    } else {
                        read(at, buffer.asSlice(0, length), data);
                        for (int i = 0; i < count; i++) {
                            hash(digest, data, i * block, block, bytes, i * VerityGeometry.DIGEST);
                        }
                    }
                    int written = count * VerityGeometry.DIGEST; // spare entries of the last block stay zeros
                    MemorySegment.copy(bytes, 0, digests, ValueLayout.JAVA_BYTE, 0, written);
                    long level = geometry.levels().getFirst().offset();
                    Linux.write(fd, digests.asSlice(0, written), level + at / block * VerityGeometry.DIGEST);
                    progress.accept(hashed.addAndGet(length));
                }
            } catch (IOException | RuntimeException e) {
                nextUnit.set(Long.MAX_VALUE / UNIT / 2); // the others need not go on
                throw e;
            }
        }

        private boolean isHole(long offset, int length) {
            if (offset >= flat.size()) {
                return true;
            }
            Extent extent = flat.extent(flat.indexOf(offset));
            return extent.source() == Zeros.INSTANCE && extent.end() >= Math.min(flat.size(), offset + length);
        }

        /** Reads data, with zeros behind the device's last byte. */
        private void read(long offset, MemorySegment buffer, byte[] data) throws IOException {
            long there = Math.min(buffer.byteSize(), flat.size() - offset);
            flat.read(offset, buffer.asSlice(0, there));
            buffer.asSlice(there).fill((byte) 0);
            MemorySegment.copy(buffer, ValueLayout.JAVA_BYTE, 0, data, 0, (int) buffer.byteSize());
        }

        /** Hashes each level into the one above it, and returns the root. */
        byte[] hashLevels() throws IOException {
            MessageDigest digest = sha256();
            byte[] root = new byte[VerityGeometry.DIGEST];
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment buffer = arena.allocate(UNIT, 4096);
                byte[] bytes = new byte[UNIT];
                if (geometry.levels().isEmpty()) {
                    read(0, buffer.asSlice(0, block), bytes);
                    hash(digest, bytes, 0, block, root, 0);
                    return root;
                }
                for (int level = 0; level < geometry.levels().size() - 1; level++) {
                    hashLevel(
                            digest,
                            geometry.levels().get(level),
                            geometry.levels().get(level + 1),
                            buffer,
                            bytes);
                }
                MemorySegment top = buffer.asSlice(0, VerityGeometry.HASH_BLOCK);
                Linux.read(fd, top, 0);
                hash(digest, top.toArray(ValueLayout.JAVA_BYTE), 0, VerityGeometry.HASH_BLOCK, root, 0);
                return root;
            }
        }

        private void hashLevel(
                MessageDigest digest,
                VerityGeometry.Level from,
                VerityGeometry.Level to,
                MemorySegment buffer,
                byte[] bytes)
                throws IOException {
            long total = from.blocks() * VerityGeometry.HASH_BLOCK;
            byte[] digests = new byte[UNIT / VerityGeometry.FAN_OUT];
            for (long at = 0; at < total; at += UNIT) {
                int length = (int) Math.min(UNIT, total - at);
                int count = length / VerityGeometry.HASH_BLOCK;
                Linux.read(fd, buffer.asSlice(0, length), from.offset() + at);
                MemorySegment.copy(buffer, ValueLayout.JAVA_BYTE, 0, bytes, 0, length);
                for (int i = 0; i < count; i++) {
                    hash(
                            digest,
                            bytes,
                            i * VerityGeometry.HASH_BLOCK,
                            VerityGeometry.HASH_BLOCK,
                            digests,
                            i * VerityGeometry.DIGEST);
                }
                int written = count * VerityGeometry.DIGEST;
                MemorySegment.copy(digests, 0, buffer, ValueLayout.JAVA_BYTE, 0, written);
                Linux.write(fd, buffer.asSlice(0, written), to.offset() + at / VerityGeometry.FAN_OUT);
            }
        }

        private void hash(MessageDigest digest, byte[] data, int at, int length, byte[] out, int outAt) {
            digest.update(salt);
            digest.update(data, at, length);
            try {
                digest.digest(out, outAt, VerityGeometry.DIGEST);
            } catch (DigestException e) {
                throw new IllegalStateException(Arrays.toString(out), e);
            }
        }

        private static MessageDigest sha256() {
            try {
                return MessageDigest.getInstance("SHA-256");
            } catch (NoSuchAlgorithmException e) {
                throw new IllegalStateException(e); // every Java has it
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.cache;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Arrays;

/**
 * The file behind a {@link CachedSource}: decoded bytes, and behind them the record of which of them are there.
 *
 * <pre>
 *   0              size, rounded up     +4096                    native byte order: a cache never leaves its machine
 *   | decoded bytes | header             | u64 state of piece 0, 1, ...
 *
 *   header:  0 magic "EUCACHE1" | 8 size u64 | 16 pieces u32 | 20 version u32 | 24 reserved | 32 identity[32]
 *   state:   0 absent | 1 durable | otherwise the stamp of the boot during which the bytes were written
 * </pre>
 *
 * <p>One file, so that a record cannot be paired with other data than its own. A piece's state is written after its
 * bytes, and readers trust it only where the order in which the disk saw the two cannot matter: a state of 1 is written
 * after {@code fdatasync}, and a stamp counts only while the kernel that took both writes still runs, because as long as
 * it does its page cache has both, however the writing process ended. After a crash of the machine, or on another
 * machine, a stamp means absent. So no reader ever waits for a disk, nothing has to be locked, and a killed server
 * loses nothing.
 *
 * <p>A state is eight bytes and aligned, so that no two writers share a byte of it. Two processes that write the same
 * piece write the same bytes.
 */
final class CacheFile {
    static final int VERSION = 1;
    static final int ALIGNMENT = 4096;
    static final int HEADER_BYTES = 4096;

    private static final byte[] MAGIC = "EUCACHE1".getBytes(StandardCharsets.US_ASCII);
    private static final long ABSENT = 0;
    private static final long DURABLE = 1;
    private static final int STATE_BYTES = 8;

    private final Blob blob;
    private final Pieces pieces;
    private final long states;
    private final long stamp;

    private CacheFile(Blob blob, Pieces pieces, long stamp) {
        this.blob = blob;
        this.pieces = pieces;
        this.stamp = stamp;
        states = headerOffset(pieces) + HEADER_BYTES;
    }

    /** Opens the cache at {@code path}; where there is none, or one of another content, makes an empty one. */
    static CacheFile open(Path path, byte[] identity, Pieces pieces) throws IOException {
        return open(path, identity, pieces, bootStamp());
    }

    /** {@link #open(Path, byte[], Pieces)} as on a machine whose boot has the given stamp. */
    static CacheFile open(Path path, byte[] identity, Pieces pieces, long stamp) throws IOException {
        byte[] header = header(identity, pieces);
        for (int attempt = 0; attempt < 8; attempt++) {
            try {
                int fd = Linux.open(path.toString(), Linux.O_RDWR | Linux.O_NOFOLLOW | Linux.O_NONBLOCK);
                Blob blob = adopt(path, fd);
                if (isOurs(blob, header, pieces)) {
                    return new CacheFile(blob, pieces, stamp);
                }
                blob.close();
                create(path, header, pieces, true);
            } catch (LinuxException e) {
                if (!Blob.isMissing(e)) {
                    throw e;
                }
                create(path, header, pieces, false);
            }
        }
        throw new IOException(path + ": replaced by others again and again while being opened");
    }

    private static Blob adopt(Path path, int fd) throws IOException {
        try {
            return Blob.adopt(path, fd);
        } catch (IOException | RuntimeException e) {
            Linux.close(fd);
            throw e;
        }
    }

    private static boolean isOurs(Blob blob, byte[] header, Pieces pieces) throws IOException {
        if (blob.size() != fileSize(pieces)) {
            return false;
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment found = arena.allocate(header.length, 8);
            blob.read(headerOffset(pieces), found);
            return Arrays.equals(found.toArray(JAVA_BYTE), header);
        }
    }

    /** Makes the file whole under another name first, so that nobody ever opens half a header. */
    private static void create(Path path, byte[] header, Pieces pieces, boolean replace) throws IOException {
        Path fresh = path.resolveSibling(path.getFileName() + ".new-" + Linux.processId() + "-" + System.nanoTime());
        int fd = Linux.open(fresh.toString(), Linux.O_RDWR | Linux.O_CREAT | Linux.O_EXCL, 0600);
        try (Arena arena = Arena.ofConfined()) {
            Linux.truncate(fd, fileSize(pieces));
            MemorySegment bytes = arena.allocate(header.length, 8);
            bytes.copyFrom(MemorySegment.ofArray(header));
            Linux.write(fd, bytes, headerOffset(pieces));
            Linux.syncData(fd);
            if (replace) {
                Files.move(fresh, path, StandardCopyOption.ATOMIC_MOVE);
            } else {
                Files.createLink(path, fresh);
            }
        } catch (FileAlreadyExistsException somebodyElseMadeIt) {
            // as good as ours: the caller opens it
        } finally {
            Linux.close(fd);
            Files.deleteIfExists(fresh);
        }
    }

    private static long headerOffset(Pieces pieces) {
        return Math.addExact(pieces.size(), ALIGNMENT - 1) & -ALIGNMENT;
    }

    private static long fileSize(Pieces pieces) {
        return Math.addExact(headerOffset(pieces), HEADER_BYTES + (long) STATE_BYTES * pieces.count());
    }

    private static byte[] header(byte[] identity, Pieces pieces) {
        ByteBuffer header = ByteBuffer.allocate(HEADER_BYTES).order(ByteOrder.nativeOrder());
        header.put(MAGIC).putLong(pieces.size()).putInt(pieces.count()).putInt(VERSION);
        header.position(32);
        header.put(identity);
        return header.array();
    }

    /** A number that another boot of this or any machine does not have, and that is no other state. */
    private static long bootStamp() {
        String boot;
        try {
            boot = Files.readString(Path.of("/proc/sys/kernel/random/boot_id")).strip();
        } catch (IOException e) {
            boot = Linux.processId() + " " + System.nanoTime(); // then only what is durable is ever trusted
        }
        byte[] digest = CacheDirectory.sha256().digest(boot.getBytes(StandardCharsets.US_ASCII));
        long stamp = ByteBuffer.wrap(digest).getLong();
        return stamp == ABSENT || stamp == DURABLE ? 2 : stamp;
    }

    /** The open file, for reading and for mapping. */
    Blob blob() {
        return blob;
    }

    /** Whether the file has the bytes of {@code piece}; asks the file, which another process may have filled. */
    boolean recorded(int piece) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment state = arena.allocate(STATE_BYTES, 8);
            blob.read(stateOffset(piece), state);
            return trusted(state.get(JAVA_LONG_UNALIGNED, 0));
        }
    }

    /** Calls {@code present} for every piece that the file has. */
    void forEachRecorded(java.util.function.IntConsumer present) throws IOException {
        int perRead = 1 << 16;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate((long) STATE_BYTES * Math.min(perRead, pieces.count()), 8);
            for (int first = 0; first < pieces.count(); first += perRead) {
                int n = Math.min(perRead, pieces.count() - first);
                blob.read(stateOffset(first), buffer.asSlice(0, (long) STATE_BYTES * n));
                for (int i = 0; i < n; i++) {
                    if (trusted(buffer.get(JAVA_LONG_UNALIGNED, (long) STATE_BYTES * i))) {
                        present.accept(first + i);
                    }
                }
            }
        }
    }

    private boolean trusted(long state) {
        return state == DURABLE || state == stamp;
    }

    /** Writes the bytes of {@code piece}, and then that they are there. */
    void write(int piece, MemorySegment bytes) throws IOException {
        if (bytes.byteSize() > pieces.length(piece)) {
            throw new IllegalArgumentException(bytes.byteSize() + " bytes for piece " + piece);
        }
        Linux.write(blob.fd(), bytes, pieces.start(piece));
        state(piece, stamp);
    }

    /** Waits until all that was written is on stable storage. */
    void sync() throws LinuxException {
        Linux.syncData(blob.fd());
    }

    /** Records that {@code piece} is there whatever happens; only for what was written before a {@link #sync()}. */
    void recordDurable(int piece) throws LinuxException {
        state(piece, DURABLE);
    }

    /** Records that {@code piece} is not there after all. */
    void forget(int piece) throws LinuxException {
        state(piece, ABSENT);
    }

    private void state(int piece, long value) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment state = arena.allocate(STATE_BYTES, 8);
            state.set(JAVA_LONG_UNALIGNED, 0, value);
            Linux.write(blob.fd(), state, stateOffset(piece));
        }
    }

    private long stateOffset(int piece) {
        return states + (long) STATE_BYTES * piece;
    }

    void close() {
        blob.close();
    }
}

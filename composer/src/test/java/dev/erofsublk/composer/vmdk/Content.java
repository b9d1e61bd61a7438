// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Zeros;
import dev.erofsublk.composer.cache.CacheDirectory;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.stream.Stream;

/** The whole of a device, read extent by extent. */
final class Content {
    private static final int CHUNK = 1 << 20;

    private static final CacheDirectory CACHE = CacheDirectory.at(temporary());

    private Content() {}

    /** Opens a disk; what has to be decoded goes to a directory that ends with the tests. */
    static VmdkImage open(Path image, Confinement confinement) throws IOException {
        return VmdkImage.open(image, confinement, CACHE);
    }

    private static Path temporary() {
        try {
            Path directory = Files.createTempDirectory("erofs-ublk-grains-");
            Runtime.getRuntime().addShutdownHook(new Thread(() -> delete(directory)));
            return directory;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void delete(Path directory) {
        try (Stream<Path> files = Files.list(directory)) {
            for (Path file : files.toList()) {
                Files.delete(file);
            }
            Files.delete(directory);
        } catch (IOException e) {
            System.err.println(e);
        }
    }

    @FunctionalInterface
    interface Sink {
        void accept(MemorySegment bytes) throws IOException;
    }

    /** The sha256 of the disk at {@code image}. */
    static String sha256(Path image) throws IOException {
        try (VmdkImage disk = open(image, Confinement.OWN_FOLDER)) {
            return sha256(disk.flat());
        }
    }

    static String sha256(FlatImage flat) throws IOException {
        MessageDigest digest = newDigest();
        each(flat, bytes -> digest.update(bytes.asByteBuffer()));
        return HexFormat.of().formatHex(digest.digest());
    }

    static byte[] bytes(FlatImage flat) throws IOException {
        byte[] all = new byte[Math.toIntExact(flat.size())];
        int[] at = {0};
        each(flat, bytes -> {
            MemorySegment.copy(bytes, ValueLayout.JAVA_BYTE, 0, all, at[0], (int) bytes.byteSize());
            at[0] += (int) bytes.byteSize();
        });
        return all;
    }

    /** A part of a device. */
    static byte[] bytes(FlatImage flat, long start, int length) throws IOException {
        byte[] part = new byte[length];
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(length, 4096);
            for (int done = 0; done < length; ) {
                Extent extent = flat.extent(flat.indexOf(start + done));
                long skip = start + done - extent.start();
                long n = Math.min(length - done, extent.length() - skip);
                extent.source().read(extent.sourceOffset() + skip, buffer.asSlice(done, n));
                done += (int) n;
            }
            MemorySegment.copy(buffer, ValueLayout.JAVA_BYTE, 0, part, 0, length);
        }
        return part;
    }

    static byte[] bytes(Path image) throws IOException {
        try (VmdkImage disk = open(image, Confinement.OWN_FOLDER)) {
            return bytes(disk.flat());
        }
    }

    static void each(FlatImage flat, Sink sink) throws IOException {
        each(flat, true, sink);
    }

    /** All bytes but those of holes. */
    static void eachStored(FlatImage flat, Sink sink) throws IOException {
        each(flat, false, sink);
    }

    private static void each(FlatImage flat, boolean holes, Sink sink) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(CHUNK, 4096);
            for (int i = 0; i < flat.extentCount(); i++) {
                Extent extent = flat.extent(i);
                if (!holes && extent.source() == Zeros.INSTANCE) {
                    continue;
                }
                for (long done = 0; done < extent.length(); ) {
                    MemorySegment part = buffer.asSlice(0, Math.min(CHUNK, extent.length() - done));
                    extent.source().read(extent.sourceOffset() + done, part);
                    sink.accept(part);
                    done += part.byteSize();
                }
            }
        }
    }

    /** Fails with the first byte that differs. */
    static void assertSame(String what, byte[] found, byte[] expected) {
        int at = Arrays.mismatch(found, expected);
        if (at >= 0) {
            throw new AssertionError("%s differs at byte %d (sector %d); %d bytes, expected %d"
                    .formatted(what, at, at / 512, found.length, expected.length));
        }
    }

    static MessageDigest newDigest() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError(e);
        }
    }
}

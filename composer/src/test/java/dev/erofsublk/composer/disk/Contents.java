// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.disk;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.FlatImage;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/** The bytes of devices and files, as tests compare them. */
public final class Contents {
    private static final int PIECE = 1 << 20;

    private Contents() {}

    /** The whole device, which must be small. */
    public static byte[] of(FlatImage image) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment all = arena.allocate(image.size());
            image.read(0, all);
            return all.toArray(ValueLayout.JAVA_BYTE);
        }
    }

    /** SHA-256 of the whole device, read piece by piece through the extents. */
    public static String sha256(FlatImage image) throws IOException {
        MessageDigest digest = sha256();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment piece = arena.allocate(PIECE);
            for (long at = 0; at < image.size(); at += PIECE) {
                MemorySegment part = piece.asSlice(0, Math.min(PIECE, image.size() - at));
                image.read(at, part);
                digest.update(part.asByteBuffer());
            }
        }
        return HexFormat.of().formatHex(digest.digest());
    }

    /** The first byte in which device and raw file differ, in length too; -1 if there is none. */
    public static long mismatch(FlatImage image, Path raw) throws IOException {
        try (Arena arena = Arena.ofConfined();
                Blob file = Blob.open(raw)) {
            MemorySegment ours = arena.allocate(PIECE);
            MemorySegment theirs = arena.allocate(PIECE);
            long common = Math.min(image.size(), file.size());
            for (long at = 0; at < common; at += PIECE) {
                long length = Math.min(PIECE, common - at);
                image.read(at, ours.asSlice(0, length));
                file.read(at, theirs.asSlice(0, length));
                long wrong = MemorySegment.mismatch(ours, 0, length, theirs, 0, length);
                if (wrong >= 0) {
                    return at + wrong;
                }
            }
            return image.size() == file.size() ? -1 : common;
        }
    }

    /** SHA-256 of a file. */
    public static String sha256(Path file) throws IOException {
        MessageDigest digest = sha256();
        try (var in = Files.newInputStream(file)) {
            byte[] piece = new byte[PIECE];
            for (int n = in.read(piece); n > 0; n = in.read(piece)) {
                digest.update(piece, 0, n);
            }
        }
        return HexFormat.of().formatHex(digest.digest());
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new AssertionError(e);
        }
    }
}

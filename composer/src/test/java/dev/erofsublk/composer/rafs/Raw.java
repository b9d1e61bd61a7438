// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Zeros;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.HexFormat;

/** A flat image as bytes. */
final class Raw {
    private Raw() {}

    static void export(FlatImage image, Path out) throws IOException {
        try (RandomAccessFile file = new RandomAccessFile(out.toFile(), "rw")) {
            file.setLength(image.size());
            for (int i = 0; i < image.extentCount(); i++) {
                Extent extent = image.extent(i);
                if (extent.source() != Zeros.INSTANCE) {
                    file.seek(extent.start());
                    file.write(bytes(extent));
                }
            }
        }
    }

    static byte[] bytes(FlatImage image) throws IOException {
        byte[] all = new byte[Math.toIntExact(image.size())];
        for (int i = 0; i < image.extentCount(); i++) {
            Extent extent = image.extent(i);
            if (extent.source() != Zeros.INSTANCE) {
                System.arraycopy(bytes(extent), 0, all, (int) extent.start(), (int) extent.length());
            }
        }
        return all;
    }

    private static byte[] bytes(Extent extent) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocate(extent.length(), 4096);
            extent.source().read(extent.sourceOffset(), bytes);
            return bytes.toArray(ValueLayout.JAVA_BYTE);
        }
    }

    static String sha256(byte[] bytes, int offset, int length) throws GeneralSecurityException {
        MessageDigest sha256 = MessageDigest.getInstance("SHA-256");
        sha256.update(bytes, offset, length);
        return HexFormat.of().formatHex(sha256.digest());
    }
}

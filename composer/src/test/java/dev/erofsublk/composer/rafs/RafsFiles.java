// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.Random;

/** Small RAFS images, for tests of other packages. */
public final class RafsFiles {
    private static final int TAR_HEADER = 512;
    private static final int TOC_ENTRY = 128;

    private RafsFiles() {}

    /**
     * An image in two files.
     *
     * @param bootstrap what is opened
     * @param blob the blob beside it, the same file if it carries its bootstrap
     */
    public record Pair(Path bootstrap, Path blob) {}

    /** Bootstrap and blob, with batched chunks, packed tables and digests of all chunks. */
    public static Pair apart(Path directory) throws IOException {
        RafsBuilder builder = new RafsBuilder();
        builder.v2 = true;
        builder.crc = true;
        builder.batchSize = 16384;
        builder.compressor = RafsBuilder.LZ4;
        return build(builder, directory);
    }

    /** A blob with tar headers and a table of contents that carries its bootstrap, as it is. */
    public static Pair together(Path directory) throws IOException {
        RafsBuilder builder = new RafsBuilder();
        builder.embedded = true;
        builder.embeddedCompressor = RafsBuilder.NONE;
        builder.toc = true;
        builder.tarHeaders = true;
        builder.digestsInBlob = true;
        builder.sha256 = true;
        return build(builder, directory);
    }

    private static Pair build(RafsBuilder builder, Path directory) throws IOException {
        Random random = new Random(1);
        for (int size : new int[] {0, 700, 5000, 70_000}) {
            byte[] content = new byte[size];
            random.nextBytes(content);
            Arrays.fill(content, Math.min(64, size), size, (byte) size); // packed to next to nothing
            builder.file("f" + size, content);
        }
        builder.alignment = 4096;
        RafsBuilder.Built built = builder.build(directory);
        return new Pair(built.bootstrap, built.blob);
    }

    /** Brings the digests in the table of contents up to date, of those contents that are stored as they are. */
    public static void seal(byte[] blob) {
        int size = blob.length - TAR_HEADER;
        ByteBuffer bytes = ByteBuffer.wrap(blob).order(ByteOrder.LITTLE_ENDIAN);
        for (int at = size - TOC_ENTRY; at >= 0 && at > size - 8 * TOC_ENTRY; at -= TOC_ENTRY) {
            long offset = bytes.getLong(at + 56);
            long stored = bytes.getLong(at + 64);
            if (bytes.getInt(at) != 1 || offset < 0 || stored <= 0 || stored > size || offset > size - stored) {
                return;
            }
            try {
                MessageDigest sha256 = MessageDigest.getInstance("SHA-256");
                sha256.update(blob, (int) offset, (int) stored);
                bytes.put(at + 24, sha256.digest());
            } catch (NoSuchAlgorithmException impossible) {
                throw new IllegalStateException(impossible);
            }
        }
    }
}

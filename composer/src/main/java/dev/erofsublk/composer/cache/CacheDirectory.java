// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.cache;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/**
 * A directory of cache files, one for each distinct content ever decoded there.
 *
 * <p>The name of a file says what it holds: a digest over everything that decides its bytes. A blob that changes gets
 * another file; it never meets what an older one left. Two devices or processes that decode the same blob meet in the
 * same file. Files may be deleted at any time; who has one open keeps it.
 *
 * <p>Must be on a local file system: what one writer has written, others must see at once.
 */
public final class CacheDirectory {
    private final Path directory;

    private CacheDirectory(Path directory) {
        this.directory = directory;
    }

    /** Uses {@code directory}; where it is missing, the first file makes it, for its owner only. */
    public static CacheDirectory at(Path directory) {
        return new CacheDirectory(directory);
    }

    /** Where the files are. */
    public Path path() {
        return directory;
    }

    /**
     * Opens the cache of one blob, which decodes on demand from then on.
     *
     * @param label a few characters that let a person recognize the file; need not be unique
     * @param identity everything, beside the shape of {@code pieces}, that decides the decoded bytes
     * @param decoder closed with the source, or at once if this fails
     */
    public CachedSource open(String label, byte[] identity, Pieces pieces, PieceDecoder decoder) throws IOException {
        try {
            if (!Files.isDirectory(directory)) {
                Files.createDirectories(
                        directory, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
            }
            byte[] digest = digest(identity, pieces);
            String name = label.replaceAll("[^A-Za-z0-9_-]", "_") + "-"
                    + HexFormat.of().formatHex(digest, 0, 16) + ".cache";
            return new CachedSource(CacheFile.open(directory.resolve(name), digest, pieces), pieces, decoder);
        } catch (IOException | RuntimeException e) {
            decoder.close();
            throw e;
        }
    }

    private static byte[] digest(byte[] identity, Pieces pieces) {
        MessageDigest sha256 = sha256();
        sha256.update(("erofs-ublk cache " + CacheFile.VERSION + " " + pieces.size() + " " + pieces.count() + "\n")
                .getBytes(java.nio.charset.StandardCharsets.US_ASCII));
        return sha256.digest(identity);
    }

    /** What identities are made with. */
    public static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException impossible) {
            throw new AssertionError(impossible); // every Java platform has it
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.cache;

import java.io.IOException;
import org.jspecify.annotations.Nullable;

/**
 * Encoded bytes that do not decode to what they should: damaged, missing, or not of the digest that the metadata
 * promise. The message is one line that names the blob and the piece.
 */
public final class DecodeException extends IOException {
    private final String blob;
    private final int piece;
    private final long offset;

    /**
     * @param blob the file of the encoded bytes
     * @param what what the format calls the piece, for example {@code "chunk 7"}
     * @param piece the piece's index
     * @param offset its first byte among the decoded ones
     * @param files the files that have its bytes, for example {@code "/usr/bin/x"}
     * @param reason what is wrong with it
     */
    public DecodeException(
            String blob, String what, int piece, long offset, String files, String reason, @Nullable Throwable cause) {
        super("%s: %s (decoded offset %d, of %s): %s".formatted(blob, what, offset, oneLine(files), reason), cause);
        this.blob = blob;
        this.piece = piece;
        this.offset = offset;
    }

    /** The same failure, for another thread that waited for it. */
    DecodeException(DecodeException first) {
        super(first.getMessage(), first);
        blob = first.blob;
        piece = first.piece;
        offset = first.offset;
    }

    /** Names come from an untrusted file system: a line break in one must not forge a second line. */
    private static String oneLine(String text) {
        return text.replaceAll("\\p{Cntrl}", "?");
    }

    /** The file of the encoded bytes. */
    public String blob() {
        return blob;
    }

    /** The index of the piece among those of its blob. */
    public int piece() {
        return piece;
    }

    /** The first byte of the piece among the decoded ones. */
    public long offset() {
        return offset;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import java.io.IOException;

/**
 * The bytes that come out of decoding: decompressing, decrypting, or both.
 *
 * <p>They live in a sparse cache file, each at the same offset as in the source, and get there on demand. A server
 * maps the cache file and asks for {@link #ensure} before it lets anyone read.
 */
public non-sealed interface Decoded extends Source {
    /**
     * The sparse file whose first {@link #size()} bytes hold what is decoded so far, at their own offsets; the record
     * of what that is may follow them. Closed with this source.
     */
    Blob cache();

    /**
     * The granule of presence in bytes, a power of two and at least a page: whoever keeps a bit for each range of this
     * size, aligned to it, loses nothing. What is decoded at a time may be larger.
     */
    int unit();

    /** Whether every unit that holds one of these bytes is decoded; a cheap look without a lock. */
    boolean present(long offset, long length);

    /**
     * Decodes every unit that holds one of these bytes and is not present yet, and waits for those that another thread
     * is at. On return the bytes are in {@link #cache()}.
     *
     * @throws IOException naming blob and unit if the encoded bytes are damaged or missing; nothing of that unit is
     *     then marked present
     */
    void ensure(long offset, long length) throws IOException;
}

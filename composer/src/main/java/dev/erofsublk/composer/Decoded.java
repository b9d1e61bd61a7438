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
    /** The sparse file that holds what is decoded so far; its size is {@link #size()}. Closed with this source. */
    Blob cache();

    /** The granule of decoding in bytes, a power of two and at least a page: presence is tracked in these. */
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

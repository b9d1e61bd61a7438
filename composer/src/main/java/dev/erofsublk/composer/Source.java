// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import java.io.IOException;
import java.lang.foreign.MemorySegment;

/**
 * Linear bytes that the extents of a {@link FlatImage} point into.
 *
 * <p>There are four kinds, and the servers need no other: a file as it is ({@link Blob}), bytes that decoding yields
 * ({@link Decoded}), bytes in memory that stand in for repaired ones of a file ({@link Bytes}), and {@link Zeros}.
 *
 * <p>Thread-safe.
 */
public sealed interface Source extends AutoCloseable permits Blob, Bytes, Decoded, Zeros {
    /** What a person knows it by: a file name, a layer, {@code "zeros"}. */
    String name();

    /** Its length in bytes; {@link Long#MAX_VALUE} for zeros. */
    long size();

    /**
     * Reads {@code target.byteSize()} bytes at {@code offset}, all of which lie within {@link #size()}.
     *
     * <p>For tools and for the few bytes that cannot be mapped; servers read through an {@link AddressSpace}.
     *
     * @param target native memory
     * @throws IOException naming the source if bytes are missing, unreadable or fail their digest; never zeros instead
     */
    void read(long offset, MemorySegment target) throws IOException;

    @Override
    void close();
}

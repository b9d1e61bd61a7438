// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.cache;

import java.io.IOException;
import java.lang.foreign.MemorySegment;

/**
 * Turns encoded bytes into a piece of decoded ones.
 *
 * <p>Called by many threads at once, for different groups. It must yield the same bytes for a piece each time: two
 * processes that share a cache may both decode it, and the second write must change nothing.
 */
public interface PieceDecoder extends AutoCloseable {
    /** What a person knows the encoded bytes by, for messages: the blob's file name. */
    String name();

    /**
     * Pieces that come out of the same work have the same group (a batch of small chunks, a stretch of a gzip stream):
     * of one group, one thread decodes at a time, and those who wait for it look first what it brought along.
     */
    default int group(int piece) {
        return piece;
    }

    /**
     * Decodes {@code piece} and hands it over; of its group it may hand over any others too.
     *
     * @throws DecodeException if the encoded bytes of {@code piece} are damaged, or fail their digest; others of the
     *     group that do are just not handed over
     * @throws IOException if they cannot be read
     */
    void decode(int piece, Sink sink) throws IOException;

    /** Releases what it reads from. */
    @Override
    void close();

    /** Where decoded pieces go. */
    interface Sink {
        /** Whether {@code piece} is worth handing over, or already there. */
        boolean wants(int piece);

        /**
         * Takes a decoded piece.
         *
         * @param bytes native memory, its first bytes; those that it lacks to the piece's length are zeros
         * @throws IOException if they cannot be stored
         */
        void put(int piece, MemorySegment bytes) throws IOException;
    }
}

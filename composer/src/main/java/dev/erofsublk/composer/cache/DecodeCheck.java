// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.cache;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.BitSet;
import java.util.function.LongConsumer;

/**
 * Decodes every piece once and keeps nothing of it: whether encoded bytes are what their metadata promise, without the
 * room that the decoded ones would take.
 */
public final class DecodeCheck {
    private final Pieces pieces;
    private final PieceDecoder decoder;
    private final BitSet seen;
    private long done;

    private DecodeCheck(Pieces pieces, PieceDecoder decoder) {
        this.pieces = pieces;
        this.decoder = decoder;
        seen = new BitSet(pieces.count());
    }

    /** Takes what is wrong with a piece. */
    @FunctionalInterface
    public interface Problems {
        /** Returns whether to go on. */
        boolean add(IOException problem);
    }

    /**
     * Decodes all of {@code pieces}.
     *
     * @param progress is told of the bytes looked at so far
     * @return whether all have been looked at
     */
    public static boolean run(Pieces pieces, PieceDecoder decoder, LongConsumer progress, Problems problems) {
        return new DecodeCheck(pieces, decoder).run(progress, problems);
    }

    private boolean run(LongConsumer progress, Problems problems) {
        for (int piece = seen.nextClearBit(0); piece < pieces.count(); piece = seen.nextClearBit(piece + 1)) {
            try {
                decoder.decode(piece, new Counter());
            } catch (IOException damaged) {
                done += pieces.length(piece);
                if (!problems.add(damaged)) {
                    return false;
                }
            }
            progress.accept(done);
        }
        return true;
    }

    private final class Counter implements PieceDecoder.Sink {
        @Override
        public boolean wants(int piece) {
            return !seen.get(piece);
        }

        @Override
        public void put(int piece, MemorySegment bytes) {
            if (!seen.get(piece)) {
                seen.set(piece);
                done += pieces.length(piece);
            }
        }
    }
}

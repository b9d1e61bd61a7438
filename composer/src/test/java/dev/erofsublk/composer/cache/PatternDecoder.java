// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.cache;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.concurrent.atomic.AtomicIntegerArray;

/** Decodes nothing: the bytes of a piece follow from their offset. Counts how often it was asked. */
class PatternDecoder implements PieceDecoder {
    final Pieces pieces;
    final AtomicIntegerArray decoded;
    volatile boolean closed;

    PatternDecoder(Pieces pieces) {
        this.pieces = pieces;
        decoded = new AtomicIntegerArray(pieces.count());
    }

    /** What the byte at {@code offset} must be; never 0, so that a hole shows. */
    static byte at(long offset) {
        long x = offset * 0x9E3779B97F4A7C15L;
        return (byte) ((x >>> 57) | 1);
    }

    @Override
    public String name() {
        return "pattern";
    }

    @Override
    public void decode(int piece, Sink sink) throws IOException {
        decoded.incrementAndGet(piece);
        put(piece, sink);
    }

    final void put(int piece, Sink sink) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocate(pieces.length(piece));
            for (long i = 0; i < bytes.byteSize(); i++) {
                bytes.set(ValueLayout.JAVA_BYTE, i, at(pieces.start(piece) + i));
            }
            sink.put(piece, bytes);
        }
    }

    @Override
    public void close() {
        closed = true;
    }

    /** Whether {@code bytes} are those of the pattern from {@code offset} on. */
    static boolean matches(MemorySegment bytes, long offset) {
        for (long i = 0; i < bytes.byteSize(); i++) {
            if (bytes.get(ValueLayout.JAVA_BYTE, i) != at(offset + i)) {
                return false;
            }
        }
        return true;
    }

    /** Pieces of the given lengths, multiples of 4096 but for the last. */
    static Pieces pieces(int... lengths) {
        long[] starts = new long[lengths.length + 1];
        for (int i = 0; i < lengths.length; i++) {
            starts[i + 1] = starts[i] + lengths[i];
        }
        return new Pieces() {
            @Override
            public int count() {
                return lengths.length;
            }

            @Override
            public long start(int piece) {
                return starts[piece];
            }
        };
    }
}

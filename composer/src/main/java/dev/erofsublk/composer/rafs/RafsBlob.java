// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import dev.erofsublk.composer.Source;
import dev.erofsublk.composer.cache.PieceDecoder;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.BitSet;
import java.util.function.LongConsumer;
import org.jspecify.annotations.Nullable;

/**
 * A blob of the image, opened.
 *
 * @param source what its slot is filled from
 * @param bytes how many bytes of that
 * @param parts its chunks and digests, or null if it has none, as in tarfs mode
 */
record RafsBlob(
        BlobEntry entry,
        Source source,
        long bytes,
        @Nullable Parts parts) {
    /** What chunks are decoded and checked with. */
    record Parts(ChunkTable chunks, ChunkDigests digests, BlobDecoder decoder) {}

    int digestCount() {
        return parts == null ? 0 : parts.digests.count();
    }

    long verifiableSize() {
        return parts == null ? 0 : parts.chunks.size();
    }

    /** Decodes every chunk once; returns {@code done} and the bytes decoded. */
    long verify(long done, LongConsumer progress) throws IOException {
        if (parts == null) {
            return done;
        }
        ChunkTable chunks = parts.chunks;
        BitSet seen = new BitSet(chunks.count());
        long[] sum = {done};
        PieceDecoder.Sink sink = new PieceDecoder.Sink() {
            @Override
            public boolean wants(int chunk) {
                return !seen.get(chunk);
            }

            @Override
            public void put(int chunk, MemorySegment bytes) {
                seen.set(chunk);
                sum[0] += chunks.length(chunk);
            }
        };
        for (int i = 0; i < chunks.count(); i++) {
            if (!seen.get(i)) {
                parts.decoder.decode(i, sink);
                progress.accept(sum[0]);
            }
        }
        return sum[0];
    }
}

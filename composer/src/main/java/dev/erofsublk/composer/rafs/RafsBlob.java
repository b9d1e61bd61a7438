// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import dev.erofsublk.composer.Source;
import dev.erofsublk.composer.cache.DecodeCheck;
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

    /** Decodes every chunk once; returns whether all have been looked at. */
    boolean verify(LongConsumer progress, DecodeCheck.Problems problems) {
        return parts == null || DecodeCheck.run(parts.chunks, parts.decoder, progress, problems);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.cache.CacheDirectory;
import dev.erofsublk.composer.cache.CachedSource;
import dev.erofsublk.composer.cache.DecodeCheck;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.erofs.Superblock;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.function.LongConsumer;

/**
 * A composed RAFS v6 image: the EROFS image that the kernel sees, and the blobs that its slots are decoded from.
 *
 * <p>Closing it closes files, caches and the memory of the chunk tables.
 */
public final class RafsImage implements Image {
    private final ErofsImage erofs;
    private final List<RafsBlob> blobs;
    private final List<Runnable> owned;

    RafsImage(ErofsImage erofs, List<RafsBlob> blobs, List<Runnable> owned) {
        this.erofs = erofs;
        this.blobs = blobs;
        this.owned = owned;
        ChunkFiles files = new ChunkFiles(erofs);
        for (RafsBlob blob : blobs) {
            if (blob.parts() != null) {
                blob.parts().decoder().nameBy(files);
            }
        }
    }

    /**
     * Whether {@code file} is one that {@link #open} reads: a RAFS v6 bootstrap, or a blob that carries one.
     *
     * @throws IOException if it cannot be read, or looks like one and is damaged
     */
    public static boolean isRafs(Blob file) throws IOException {
        if (Bootstrap.isRafs(Superblock.find(file))) {
            return true;
        }
        Toc toc = Toc.read(file);
        return toc != null && toc.find(Toc.BOOTSTRAP) != null;
    }

    /**
     * Composes the image.
     *
     * @param bootstrap the bootstrap, or a self-contained blob
     * @param finder where the blobs are
     * @param cache where decoded chunks go
     */
    public static RafsImage open(Path bootstrap, BlobFinder finder, CacheDirectory cache) throws IOException {
        RafsComposer composer = new RafsComposer(finder, cache);
        try {
            return composer.compose(bootstrap);
        } catch (IOException | RuntimeException e) {
            composer.closeAll();
            throw e;
        }
    }

    @Override
    public String format() {
        return "rafs";
    }

    @Override
    public FlatImage flat() {
        return erofs.flat();
    }

    /** The image as EROFS: superblock, slots and repairs. */
    public ErofsImage erofs() {
        return erofs;
    }

    /**
     * Decodes every chunk and compares its digest, without keeping what is decoded.
     *
     * @param progress is told of the bytes decoded so far, of {@link #decodedSize()}
     * @param problems takes each chunk that is not right
     * @return whether all have been looked at
     */
    public boolean verify(LongConsumer progress, DecodeCheck.Problems problems) {
        long before = 0;
        for (RafsBlob blob : blobs) {
            long start = before;
            if (!blob.verify(done -> progress.accept(start + done), problems)) {
                return false;
            }
            before += blob.verifiableSize();
        }
        return true;
    }

    /** Bytes of all chunks, decoded. */
    public long decodedSize() {
        return blobs.stream().mapToLong(RafsBlob::verifiableSize).sum();
    }

    @Override
    public void describe(Description description) {
        erofs.describe(description);
        for (RafsBlob blob : blobs) {
            BlobEntry entry = blob.entry();
            Map<String, Object> row = description.row("blobs");
            row.put("blob", entry.index());
            row.put("id", entry.id());
            row.put("features", Feature.names(entry.features()));
            row.put("compressor", entry.compressor().toString());
            row.put("cipher", entry.encrypted() ? "aes-128-xts" : "none");
            row.put("chunks", entry.chunkCount());
            row.put("compressed_size", entry.compressedSize());
            row.put("uncompressed_size", entry.uncompressedSize());
            row.put("digester", entry.digester().toString());
            row.put("digests", blob.digestCount());
            if (blob.source() instanceof CachedSource cached) {
                row.put("decoded_chunks", cached.presentCount());
                row.put("cache", cached.cache().name());
            } else {
                row.put("served", "as it is");
            }
        }
    }

    @Override
    public void close() {
        erofs.close();
        owned.forEach(Runnable::run);
    }

    static long alignUp(long bytes, long alignment) {
        return Math.addExact(bytes, alignment - 1) & -alignment;
    }
}

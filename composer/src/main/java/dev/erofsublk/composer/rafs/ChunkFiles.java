// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import dev.erofsublk.composer.Decoded;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.erofs.fs.ErofsFileSystem;
import dev.erofsublk.composer.erofs.fs.ReverseIndex;
import java.io.IOException;
import java.lang.ref.SoftReference;
import java.util.LinkedHashSet;
import java.util.Set;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/**
 * Which files a chunk belongs to, for messages about one that is damaged.
 *
 * <p>Found in an index of the whole image, which is made when the first such message is, from the metadata alone, and
 * given up when memory is short. Thread-safe.
 */
final class ChunkFiles {
    private static final int NAMES = 3;

    private final ErofsImage image;
    private SoftReference<ReverseIndex> index = new SoftReference<>(null);

    ChunkFiles(ErofsImage image) {
        this.image = image;
    }

    /**
     * The paths of the files that have these bytes, three at most.
     *
     * @param blob its index in the blob table
     * @param offset first byte among the decoded ones of the blob
     */
    String of(int blob, long offset, long length) {
        long start =
                (image.devices().get(blob).slot().block() << image.superblock().blockBits()) + offset;
        try {
            Set<String> paths = new LinkedHashSet<>();
            for (ReverseIndex.Hit hit : index().in(start, start + length)) {
                paths.addAll(hit.paths());
            }
            if (paths.isEmpty()) {
                return "no file";
            }
            String names = paths.stream().limit(NAMES).collect(Collectors.joining(", "));
            return paths.size() <= NAMES ? names : names + " and " + (paths.size() - NAMES) + " more";
        } catch (IOException damaged) {
            return "a file that cannot be found: " + damaged.getMessage();
        }
    }

    private synchronized ReverseIndex index() throws IOException {
        @Nullable ReverseIndex known = index.get();
        if (known == null) {
            known = ReverseIndex.build(ErofsFileSystem.open(image.meta().name(), withoutDecoded(image.flat())));
            index = new SoftReference<>(known);
        }
        return known;
    }

    /**
     * The device with zeros for what has to be decoded: this is asked for by a decoder at work, and metadata that claim
     * to be among its own chunks must not make it wait for itself.
     */
    private static FlatImage withoutDecoded(FlatImage flat) {
        FlatImage.Builder builder = FlatImage.builder(flat.blockSize());
        for (int i = 0; i < flat.extentCount(); i++) {
            Extent extent = flat.extent(i);
            if (extent.source() instanceof Decoded) {
                builder.zeros(extent.length());
            } else {
                builder.append(extent.length(), extent.source(), extent.sourceOffset());
            }
        }
        return builder.build();
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.source;

import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.cache.CachedSource;
import dev.erofsublk.composer.cache.DecodeCheck;
import dev.erofsublk.composer.erofs.ContentCheck;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.rafs.RafsImage;
import dev.erofsublk.composer.verity.VerityImage;
import java.io.IOException;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.LongConsumer;

/**
 * The digests of content that an image has, whatever its format: of blobs whose tag is one, of the chunks of RAFS, of
 * the compressed grains of a VMDK.
 */
public final class ImageDigests {
    /** How many problems are told; of a badly damaged image one does not want all. */
    public static final int PROBLEMS = 100;

    private final Image image;

    private ImageDigests(Image image) {
        this.image = image;
    }

    /** Those of {@code image}, which must stay open. */
    public static ImageDigests of(Image image) {
        return new ImageDigests(image instanceof VerityImage verity ? verity.image() : image);
    }

    /** Bytes that {@link #check} looks at. */
    public long bytes() {
        return switch (image) {
            case RafsImage rafs -> rafs.decodedSize();
            case ErofsImage erofs -> new ContentCheck(erofs, done -> {}).bytes();
            default -> decoded().stream().mapToLong(CachedSource::size).sum();
        };
    }

    private List<CachedSource> decoded() {
        return image.flat().sources().stream()
                .filter(CachedSource.class::isInstance)
                .map(CachedSource.class::cast)
                .toList();
    }

    /**
     * Compares all of it; nothing that is decoded for this is kept.
     *
     * @param progress gets the bytes looked at so far
     * @param problems gets a line for each digest that is wrong, {@link #PROBLEMS} at most
     * @return whether everything was looked at; not, if there are too many problems
     * @throws IOException if a file cannot be read
     */
    public boolean check(LongConsumer progress, Consumer<String> problems) throws IOException {
        return switch (image) {
            case RafsImage rafs -> rafs.verify(progress, bounded(problems));
            case ErofsImage erofs -> {
                new ContentCheck(erofs, progress).run().forEach(problems);
                yield true;
            }
            default -> checkDecoded(progress, bounded(problems));
        };
    }

    private boolean checkDecoded(LongConsumer progress, DecodeCheck.Problems problems) {
        long before = 0;
        for (CachedSource source : decoded()) {
            long start = before;
            if (!source.verify(done -> progress.accept(start + done), problems)) {
                return false;
            }
            before += source.size();
        }
        return true;
    }

    private static DecodeCheck.Problems bounded(Consumer<String> problems) {
        int[] count = {0};
        return problem -> {
            problems.accept(String.valueOf(problem.getMessage()));
            return ++count[0] < PROBLEMS;
        };
    }
}

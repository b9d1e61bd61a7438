// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.source.ImageCheck;
import java.io.IOException;

/**
 * An image laid out in memory, ready to be served.
 *
 * @param image what was opened
 * @param space where it lies
 */
public record MappedImage(Image image, AddressSpace space) implements AutoCloseable {
    /**
     * Opens an image and maps it.
     *
     * @throws IOException if it cannot be opened, or its superblock or sizes say that something is wrong with it
     */
    public static MappedImage open(SourceSpec source) throws IOException {
        return open(source, AllowedPaths.ALL);
    }

    /** As above, of certain directories only. */
    static MappedImage open(SourceSpec source, AllowedPaths allowed) throws IOException {
        Image image = source.open();
        try {
            allowed.check(image.flat());
            return new MappedImage(image, AddressSpace.map(image.flat()));
        } catch (IOException | RuntimeException e) {
            image.close();
            throw e;
        }
    }

    /**
     * Looks at every file and chunk, and waits for the end of that: before anybody is served.
     *
     * @param contents whether to compare the content with the image's digests too
     * @throws IOException naming the first thing that would read wrong
     */
    public void require(boolean contents) throws IOException {
        try (ImageCheck check = ImageCheck.start(image)) {
            check.require();
            if (contents) {
                check.requireContents(image);
            }
        }
    }

    @Override
    public void close() {
        space.close();
        image.close();
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Image;
import java.io.IOException;

/** An image laid out in memory, ready to be served. */
record MappedImage(Image image, AddressSpace space) implements AutoCloseable {
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

    @Override
    public void close() {
        space.close();
        image.close();
    }
}

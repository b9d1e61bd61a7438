// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.erofs.fs.ErofsFileSystem;
import dev.erofsublk.composer.rafs.RafsImage;
import java.io.IOException;

/** The file system on an image, for the commands that look into it. */
final class ErofsSource {
    private ErofsSource() {}

    /** Opens the EROFS on {@code image}'s device, whatever format holds it. */
    static ErofsFileSystem open(Image image) throws IOException {
        String name = switch (image) {
            case ErofsImage erofs -> erofs.meta().name();
            case RafsImage rafs -> rafs.erofs().meta().name();
            default -> image.format() + " image";
        };
        return ErofsFileSystem.open(name, image.flat());
    }
}

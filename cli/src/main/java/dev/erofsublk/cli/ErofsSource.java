// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.erofs.fs.ErofsFileSystem;
import java.io.IOException;

/** The file system on an image, for the commands that look into it. */
final class ErofsSource {
    private ErofsSource() {}

    /** Opens the EROFS on {@code image}'s device, whatever format holds it. */
    static ErofsFileSystem open(Image image) throws IOException {
        String name = image instanceof ErofsImage erofs ? erofs.meta().name() : image.format() + " image";
        return ErofsFileSystem.open(name, image.flat());
    }
}

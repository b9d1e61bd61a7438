// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.probe;

import java.util.Arrays;
import java.util.Locale;
import java.util.Optional;

/** The formats of images in one file; the names in small letters are those of {@code --format}. */
public enum Format {
    EROFS,
    RAW,
    VMDK,
    VHDX,
    VHD;

    /** The format that {@code name} means on a command line, if any. */
    public static Optional<Format> named(String name) {
        return Arrays.stream(values())
                .filter(format -> format.toString().equals(name.toLowerCase(Locale.ROOT)))
                .findFirst();
    }

    /** The format that a file name promises by its extension, if any; EROFS and raw images have none of their own. */
    static Optional<Format> promisedBy(String fileName) {
        String extension = fileName.substring(fileName.lastIndexOf('.') + 1);
        return switch (extension.toLowerCase(Locale.ROOT)) {
            case "vmdk" -> Optional.of(VMDK);
            case "vhdx", "avhdx" -> Optional.of(VHDX);
            case "vhd", "avhd", "vpc" -> Optional.of(VHD);
            default -> Optional.empty();
        };
    }

    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT);
    }
}

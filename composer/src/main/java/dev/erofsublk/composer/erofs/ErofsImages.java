// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Opens EROFS images from what a user names: a directory of blobs, or the files themselves. */
public final class ErofsImages {
    private ErofsImages() {}

    /** The metadata image among the files of a directory: the one with a device table, or else the one image at all. */
    public static Path metaIn(Path directory) throws IOException {
        return BlobDirectory.scan(directory).meta();
    }

    /**
     * Composes the image of a directory, whose blobs are found by the tags of its slots.
     *
     * @param meta the metadata image, which need not be in the directory; null to look for it there
     */
    public static ErofsImage fromDirectory(Path directory, @Nullable Path meta) throws IOException {
        BlobDirectory files = BlobDirectory.scan(directory);
        Path metaPath = meta != null ? meta : files.meta();
        return open(metaPath, composer -> {
            List<Path> blobs = new ArrayList<>();
            Map<Path, Integer> slotOf = new HashMap<>();
            for (DeviceSlot slot : composer.slots()) {
                Path blob = files.find(slot, metaPath);
                Integer other = slotOf.put(blob, slot.number());
                if (other != null) {
                    throw new ImageException(
                            metaPath.toString(),
                            "device slot " + slot.number() + " tag",
                            "%s, as in slot %d".formatted(slot.tag(), other),
                            "a tag of its own; give the order with --meta FILE --blob FILE --blob FILE ...");
                }
                blobs.add(blob);
            }
            return blobs;
        });
    }

    /** Composes the image of a metadata file and its blobs in the order of the device table. */
    public static ErofsImage fromFiles(Path meta, List<Path> blobs) throws IOException {
        return open(meta, composer -> blobs);
    }

    @FunctionalInterface
    private interface BlobChoice {
        List<Path> choose(ErofsComposer composer) throws IOException;
    }

    private static ErofsImage open(Path meta, BlobChoice choice) throws IOException {
        List<Blob> opened = new ArrayList<>();
        try {
            Blob metaBlob = Blob.open(meta);
            opened.add(metaBlob);
            ErofsComposer composer = ErofsComposer.open(metaBlob);
            List<Blob> blobs = new ArrayList<>();
            for (Path path : choice.choose(composer)) {
                Blob blob = Blob.open(path);
                opened.add(blob);
                blobs.add(blob);
            }
            return composer.compose(blobs);
        } catch (IOException | RuntimeException e) {
            opened.forEach(Blob::close);
            throw e;
        }
    }
}

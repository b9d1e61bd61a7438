// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.probe.Format;
import dev.erofsublk.composer.source.ImageSource;
import dev.erofsublk.daemon.SourceSpec;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.jspecify.annotations.Nullable;

/** The three ways to name an image, the same for every command. */
final class SourceOptions {
    private final Command command;
    private final Option<Path> blobs;
    private final Option<Path> meta;
    private final Option<List<Path>> blob;
    private final Option<Path> image;
    private final Option<String> format;
    private final Option<List<Path>> allowed;
    private final Option<Path> cache;

    SourceOptions(Command command) {
        this.command = command;
        blobs = command.option(
                "--blobs",
                Path.class,
                "DIR",
                "Directory with the metadata image and its blobs, which are found by their tags.");
        meta = command.option("--meta", Path.class, "FILE", "The metadata image, with --blobs or --blob.");
        blob = command.list("--blob", Path.class, "FILE", "A blob; repeat it in the order of the device table.");
        image = command.option(
                "--image",
                Path.class,
                "FILE",
                "An image in one file: EROFS, raw, VMDK, VHDX or VHD; a RAFS bootstrap whose blobs lie beside it.");
        format = command.option(
                "--format",
                String.class,
                "FORMAT",
                "With --image: erofs, raw, vmdk, vhdx or vhd; told by name and content if not given.");
        allowed = command.list(
                "--allow-dir",
                Path.class,
                "DIR",
                "A directory in which a disk image may refer to other files, beside its own.");
        cache = command.option(
                "--cache",
                Path.class,
                "DIR",
                "Where decoded chunks are kept; /var/cache/erofs-ublk for root if not given.");
    }

    /** Whether any image was named. */
    boolean isGiven() {
        return image.isGiven() || blobs.isGiven() || meta.isGiven() || blob.isGiven();
    }

    /** A further image that is named by a path alone: a directory with blobs, or a file. */
    SourceSpec further(Path path) {
        boolean directory = Files.isDirectory(path);
        return new SourceSpec(new ImageSource(
                directory ? path : null,
                null,
                List.of(),
                directory ? null : path,
                null,
                allowed.or(List.of()),
                cache.value()));
    }

    /** Opens and checks what was named. */
    Image open() throws IOException {
        return spec().open();
    }

    /** What was named, for another process to open. */
    SourceSpec spec() {
        if (image.isGiven()) {
            command.refuse(blobs.isGiven() || meta.isGiven() || blob.isGiven(), "--image goes alone");
        } else if (blobs.isGiven()) {
            command.refuse(blob.isGiven(), "--blob goes with --meta, not with --blobs");
        } else {
            command.refuse(
                    !meta.isGiven(),
                    "no image given: name it with --blobs DIR, --meta FILE --blob FILE ..., or --image FILE");
        }
        command.refuse(format.isGiven() && !image.isGiven(), "--format goes with --image");
        return new SourceSpec(new ImageSource(
                blobs.value(),
                meta.value(),
                blob.or(List.of()),
                image.value(),
                format(),
                allowed.or(List.of()),
                cache.value()));
    }

    private @Nullable Format format() {
        String name = format.value();
        if (name == null) {
            return null;
        }
        return Format.named(name)
                .orElseThrow(() ->
                        command.usage("--format is %s, expected one of erofs, raw, vmdk, vhdx, vhd".formatted(name)));
    }
}

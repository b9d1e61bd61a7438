// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.probe.Format;
import dev.erofsublk.composer.source.ImageSource;
import dev.erofsublk.daemon.SourceSpec;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** The three ways to name an image, the same for every command. */
final class SourceOptions {
    @Option(
            names = "--blobs",
            paramLabel = "DIR",
            description = "Directory with the metadata image and its blobs, which are found by their tags.")
    private @Nullable Path blobs;

    @Option(names = "--meta", paramLabel = "FILE", description = "The metadata image, with --blobs or --blob.")
    private @Nullable Path meta;

    @Option(names = "--blob", paramLabel = "FILE", description = "A blob; repeat it in the order of the device table.")
    private List<Path> blob = new ArrayList<>();

    @Option(
            names = "--image",
            paramLabel = "FILE",
            description =
                    "An image in one file: EROFS, raw, VMDK, VHDX or VHD; a RAFS bootstrap whose blobs lie beside it.")
    private @Nullable Path image;

    @Option(
            names = "--format",
            paramLabel = "FORMAT",
            description = "With --image: erofs, raw, vmdk, vhdx or vhd; told by name and content if not given.")
    private @Nullable String format;

    @Option(
            names = "--allow-dir",
            paramLabel = "DIR",
            description = "A directory in which a disk image may refer to other files, beside its own.")
    private List<Path> allowed = new ArrayList<>();

    @Option(
            names = "--cache",
            paramLabel = "DIR",
            description = "Where decoded chunks are kept; /var/cache/erofs-ublk for root if not given.")
    private @Nullable Path cache;

    @Spec(Spec.Target.MIXEE)
    private @Nullable CommandSpec command;

    /** Whether any image was named. */
    boolean isGiven() {
        return image != null || blobs != null || meta != null || !blob.isEmpty();
    }

    /** A further image that is named by a path alone: a directory with blobs, or a file. */
    SourceSpec further(Path path) {
        boolean directory = Files.isDirectory(path);
        return new SourceSpec(new ImageSource(
                directory ? path : null, null, List.of(), directory ? null : path, null, allowed, cache));
    }

    /** Opens and checks what was named. */
    Image open() throws IOException {
        return spec().open();
    }

    /** What was named, for another process to open. */
    SourceSpec spec() {
        if (image != null) {
            refuse(blobs != null || meta != null || !blob.isEmpty(), "--image goes alone");
        } else if (blobs != null) {
            refuse(!blob.isEmpty(), "--blob goes with --meta, not with --blobs");
        } else if (meta == null) {
            throw usage("no image given: name it with --blobs DIR, --meta FILE --blob FILE ..., or --image FILE");
        }
        refuse(format != null && image == null, "--format goes with --image");
        return new SourceSpec(new ImageSource(blobs, meta, blob, image, format(), allowed, cache));
    }

    private @Nullable Format format() {
        if (format == null) {
            return null;
        }
        return Format.named(format)
                .orElseThrow(
                        () -> usage("--format is %s, expected one of erofs, raw, vmdk, vhdx, vhd".formatted(format)));
    }

    private void refuse(boolean wrong, String message) {
        if (wrong) {
            throw usage(message);
        }
    }

    private ParameterException usage(String message) {
        if (command == null) {
            throw new IllegalStateException("options outside a command");
        }
        return new ParameterException(command.commandLine(), message);
    }
}

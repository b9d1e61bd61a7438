// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.Image;
import dev.erofsublk.daemon.SourceSpec;
import java.io.IOException;
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

    @Option(names = "--image", paramLabel = "FILE", description = "An image in one file.")
    private @Nullable Path image;

    @Spec(Spec.Target.MIXEE)
    private @Nullable CommandSpec command;

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
        return new SourceSpec(blobs, meta, blob, image);
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

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.disk;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.Assumptions;

/** The project's sample images, which are not in the repository. */
public final class Samples {
    private Samples() {}

    /**
     * Unpacks the samples of a format into {@code target}, side by side, because names inside them refer to siblings.
     * Where there are none, the calling test is reported as not run.
     */
    public static void unpack(String format, Path target) throws IOException {
        Path samples = root().resolve(format);
        Assumptions.assumeTrue(
                Files.isDirectory(samples), "not run: there are no sample images in " + samples.toAbsolutePath());
        for (Path file : list(samples)) {
            String name = file.getFileName().toString();
            boolean packed = name.endsWith(".gz");
            Path to = target.resolve(packed ? name.substring(0, name.length() - 3) : name);
            try (InputStream in = Files.newInputStream(file);
                    InputStream plain = packed ? new GZIPInputStream(in) : in;
                    OutputStream out = Files.newOutputStream(to)) {
                plain.transferTo(out);
            }
        }
    }

    private static List<Path> list(Path folder) throws IOException {
        try (var files = Files.list(folder)) {
            return files.toList();
        }
    }

    /** Beside the repository, whether the tests run in it or in a module of it. */
    private static Path root() {
        Path beside = Path.of("../shared/samples");
        return Files.isDirectory(beside) ? beside : Path.of("../../shared/samples");
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.GZIPInputStream;

/** The samples of facts/vmdisk.md, which are kept beside the repository. */
final class Samples {
    private Samples() {}

    /** Unpacks all VMDK samples into {@code target}; the test does not run where there are none. */
    static void unpack(Path target) throws IOException {
        Path samples = find();
        try (DirectoryStream<Path> files = Files.newDirectoryStream(samples)) {
            for (Path file : files) {
                String name = file.getFileName().toString();
                if (name.endsWith(".gz")) {
                    try (InputStream in = new GZIPInputStream(Files.newInputStream(file))) {
                        Files.copy(in, target.resolve(name.substring(0, name.length() - 3)));
                    }
                } else {
                    Files.copy(file, target.resolve(name));
                }
            }
        }
        Files.copy(target.resolve("monolithicFlat-flat.vmdk"), target.resolve("twoGbMaxExtentFlat-f001.vmdk"));
    }

    private static Path find() {
        for (Path up = Path.of("").toAbsolutePath(); up != null; up = up.getParent()) {
            Path samples = up.resolve("shared/samples/vmdk");
            if (Files.isDirectory(samples)) {
                return samples;
            }
        }
        assumeTrue(false, "not run: no shared/samples/vmdk beside the repository");
        throw new AssertionError();
    }
}

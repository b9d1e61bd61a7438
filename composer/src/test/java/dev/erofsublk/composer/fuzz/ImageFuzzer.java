// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.fuzz;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * What {@code scripts/fuzz} has Jazzer call; {@code -Dfuzz.target=KIND} says which of {@link FuzzTarget.Kind}, and
 * {@code -Dfuzz.directory=DIR} where its files go.
 */
public final class ImageFuzzer {
    private static final FuzzTarget TARGET = target();

    private ImageFuzzer() {}

    private static FuzzTarget target() {
        try {
            Path directory = Files.createTempDirectory(Path.of(System.getProperty("fuzz.directory", "/tmp")), "fuzz-");
            return FuzzTarget.of(FuzzTarget.Kind.valueOf(System.getProperty("fuzz.target", "")), directory);
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
    }

    /** One input. */
    public static void fuzzerTestOneInput(byte[] input) throws IOException {
        TARGET.run(input);
    }
}

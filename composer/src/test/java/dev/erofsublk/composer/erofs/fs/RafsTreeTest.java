// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.erofsublk.composer.cache.CacheDirectory;
import dev.erofsublk.composer.rafs.BlobFinder;
import dev.erofsublk.composer.rafs.RafsImage;
import java.io.ByteArrayOutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The reader on what Nydus wrote: chunk indexes whose upper halves mean something else, data that is decoded. */
class RafsTreeTest {
    private static final Path SAMPLES = Path.of("../../shared/samples/rafs");

    @TempDir
    private Path dir;

    @Test
    void theSampleIsWalkedAndRead() throws Exception {
        assumeTrue(Files.isDirectory(SAMPLES), "not run: no sample images in " + SAMPLES.toAbsolutePath());
        try (RafsImage image =
                RafsImage.open(SAMPLES.resolve("rafs-v6-2.2.boot"), BlobFinder.in(SAMPLES), CacheDirectory.at(dir))) {
            ErofsFileSystem fs = ErofsFileSystem.open("sample", image.flat());
            WalkReport report = Walk.run(fs);
            assertThat(report.problems()).isEmpty();
            assertThat(report.inodes()).isEqualTo(3);
            assertThat(sha256(fs, "/lib.rs")).startsWith("1810eba8");
            assertThat(sha256(fs, "/sync_io.rs")).startsWith("e629ab26");
        }
    }

    private static String sha256(ErofsFileSystem fs, String path) throws Exception {
        ByteArrayOutputStream content = new ByteArrayOutputStream();
        fs.copyTo(fs.resolve(path, true).orElseThrow(), content);
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content.toByteArray()));
    }
}

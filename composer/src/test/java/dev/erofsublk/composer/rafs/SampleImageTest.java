// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.cache.CacheDirectory;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The one pair of bootstrap and blob that this project has and did not write: Nydus' own fixture of version 2.2. */
final class SampleImageTest {
    private static final Path SAMPLES = Path.of("../../shared/samples/rafs");

    @TempDir
    Path directory;

    @Test
    void decodesWhatNydusEncoded() throws Exception {
        Assumptions.assumeTrue(Files.isDirectory(SAMPLES), "not run: no sample images in " + SAMPLES.toAbsolutePath());
        try (RafsImage image = RafsImage.open(
                SAMPLES.resolve("rafs-v6-2.2.boot"), BlobFinder.in(SAMPLES), CacheDirectory.at(directory))) {
            assertThat(image.flat().extentCount()).isEqualTo(3);
            Extent blob = image.flat().extent(2);
            assertThat(blob.start()).isEqualTo(512 * 4096);
            assertThat(blob.length()).isEqualTo(9 * 4096);
            assertThat(RafsImageTest.problems(image)).isEmpty();
            Path raw = directory.resolve("raw");
            Raw.export(image.flat(), raw);
            byte[] device = Files.readAllBytes(raw);
            // Chunk 0 is lib.rs and chunk 1 sync_io.rs, as the kernel reads them too: see the next test.
            assertThat(Raw.sha256(device, 512 * 4096, 16931)).startsWith("1810eba8");
            assertThat(Raw.sha256(device, 512 * 4096 + 0x5000, 0x3458)).startsWith("e629ab26");
        }
    }

    @Test
    void theKernelMountsWhatItWasDecodedTo() throws Exception {
        Assumptions.assumeTrue(Files.isDirectory(SAMPLES), "not run: no sample images in " + SAMPLES.toAbsolutePath());
        Assumptions.assumeTrue(
                Mount.isPossible(), "not run: needs root, a loop device and EROFS in the kernel (" + Mount.why() + ")");
        Path raw = directory.resolve("raw");
        try (RafsImage image = RafsImage.open(
                SAMPLES.resolve("rafs-v6-2.2.boot"), BlobFinder.in(SAMPLES), CacheDirectory.at(directory))) {
            Raw.export(image.flat(), raw);
        }
        try (Mount mount = Mount.of(raw, directory.resolve("mnt"))) {
            byte[] lib = Files.readAllBytes(mount.path().resolve("lib.rs"));
            byte[] io = Files.readAllBytes(mount.path().resolve("sync_io.rs"));
            assertThat(Raw.sha256(lib, 0, lib.length)).startsWith("1810eba8");
            assertThat(Raw.sha256(io, 0, io.length)).startsWith("e629ab26");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Contents;
import dev.erofsublk.composer.disk.Samples;
import java.io.IOException;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Real and synthetic images against the digests of samples/MANIFEST.md. */
class VhdSamplesTest {
    @TempDir
    private static Path folder;

    @BeforeAll
    static void unpack() throws IOException {
        Samples.unpack("vhd", folder);
    }

    @ParameterizedTest
    @CsvSource({
        "child.avhd, 7340032, 1234cdc58203b9ff1fac89c489ca6ae91853a7aa8e58b89cecce5797c8e75ba2",
        "ext2.vhd, 4212736, 870be7ae16c1fa8faab05c6eb9205dc9a7ae35c5f552c5cf8a267c0bc6a5cb99",
        "fixed.vhd, 3145728, a30a31ac110f797a31c5c9c05cbcff47c4bb3356f46e4742d5879693d5368aac",
        "parent.vhd, 7340032, 65ef037e05085b82ec2ef4226a83e84d17d74d19058398bf42b3f889c7c0d8bd",
    })
    void theContentOfEachSampleIsTheOneOfTheManifest(String file, long size, String sha256) throws IOException {
        try (VhdImage image = VhdImage.open(folder.resolve(file), Confinement.OWN_FOLDER)) {
            assertThat(image.flat().size()).isEqualTo(size);
            assertThat(Contents.sha256(image.flat())).isEqualTo(sha256);
        }
    }

    @Test
    void aStaleChecksumIsRefused() {
        assertThatThrownBy(() -> VhdImage.open(folder.resolve("image.vhd"), Confinement.OWN_FOLDER))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("footer")
                .hasMessageContaining("a wrong checksum at the end, a wrong checksum at the start");
    }

    @Test
    void theDescriptionNamesChildAndParent() throws IOException {
        Description description = new Description();
        try (VhdImage image = VhdImage.open(folder.resolve("child.avhd"), Confinement.OWN_FOLDER)) {
            image.describe(description);
        }

        assertThat(description.sections().get("vhd"))
                .satisfiesExactly(
                        child -> assertThat(child)
                                .containsEntry("kind", "differencing")
                                .containsEntry("allocated_blocks", 3),
                        parent -> assertThat(parent)
                                .containsEntry("kind", "dynamic")
                                .containsEntry("creator", "win "));
    }
}

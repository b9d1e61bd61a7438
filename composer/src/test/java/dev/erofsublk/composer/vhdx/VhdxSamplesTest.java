// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.disk.Contents;
import dev.erofsublk.composer.disk.Samples;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Real and synthetic images against the digests of samples/MANIFEST.md. */
class VhdxSamplesTest {
    @TempDir
    private static Path folder;

    @BeforeAll
    static void unpack() throws IOException {
        Samples.unpack("vhdx", folder);
    }

    @ParameterizedTest
    @CsvSource({
        "parent.vhdx, 512, cfd9913a8b409351a6b56cf16d7775147cbcc57a3fd245dd5b88e18b12fbccfa",
        "child.avhdx, 512, 98d0d8598d1b33e6a097e71853b930afd7ecf5c339cdeb2aee1b604c883f69a1",
        "dirtylog-2entries.vhdx, 512, 08c63dd26f2fc3a0e00beb6c67bfe8d5a65a9f4471f0ab618dd32db603760b01",
        "l4096.vhdx, 4096, cfd9913a8b409351a6b56cf16d7775147cbcc57a3fd245dd5b88e18b12fbccfa",
    })
    void theContentOfEachSampleIsTheOneOfTheManifest(String file, int sector, String sha256) throws IOException {
        try (VhdxImage image = VhdxImage.open(folder.resolve(file), Confinement.OWN_FOLDER)) {
            assertThat(Contents.sha256(image.flat())).isEqualTo(sha256);
            assertThat(image.flat().blockSize()).isEqualTo(sector);
        }
    }

    @Test
    void replayChangesNoByteOfTheFile() throws IOException {
        Path dirty = folder.resolve("dirtylog-2entries.vhdx");
        String before = Contents.sha256(dirty);
        var modified = Files.getLastModifiedTime(dirty);

        try (VhdxImage image = VhdxImage.open(dirty, Confinement.OWN_FOLDER)) {
            assertThat(image.flat().sources()).isNotEmpty();
        }

        assertThat(Contents.sha256(dirty)).isEqualTo(before);
        assertThat(Files.getLastModifiedTime(dirty)).isEqualTo(modified);
    }

    @Test
    void theDescriptionNamesChildAndParent() throws IOException {
        Description description = new Description();
        try (VhdxImage image = VhdxImage.open(folder.resolve("child.avhdx"), Confinement.OWN_FOLDER)) {
            image.describe(description);
        }

        assertThat(description.sections().get("vhdx"))
                .hasSize(2)
                .satisfiesExactly(
                        child -> assertThat(child).containsEntry("kind", "differencing"),
                        parent -> assertThat(parent)
                                .containsEntry("kind", "dynamic")
                                .containsEntry("virtual_size", 6291456L));
    }

    @Test
    void aReplayedDiskSaysHowManyEntriesWereReplayed() throws IOException {
        Description description = new Description();
        try (VhdxImage image = VhdxImage.open(folder.resolve("dirtylog-2entries.vhdx"), Confinement.OWN_FOLDER)) {
            image.describe(description);
            assertThat(image.flat().sources()).noneMatch(source -> source instanceof Bytes);
        }
        assertThat(description.sections().get("vhdx"))
                .singleElement()
                .satisfies(row -> assertThat(row).containsEntry("replayed_log_entries", 2));
    }
}

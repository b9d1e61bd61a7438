// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.RawImage;
import dev.erofsublk.composer.disk.Contents;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Arrays;
import java.util.Random;
import java.util.UUID;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class VhdWriterTest {
    private static final UUID ID = new UUID(7, 8);
    private static final Instant TIME = Instant.parse("2026-01-01T00:00:00Z");

    @TempDir
    private Path folder;

    @Test
    void whatIsWrittenIsReadBack() throws IOException {
        byte[] content = new byte[3_000_832]; // not a multiple of a piece, of a grain or of a page
        new Random(1).nextBytes(content);
        Arrays.fill(content, 8192, 1_500_000, (byte) 0);
        FlatImage image = FlatImage.builder(512)
                .append(1_048_576, new Bytes("content", content), 0)
                .zeros(512)
                .append(content.length - 1_048_576, new Bytes("content", content), 1_048_576)
                .build();
        byte[] expected = Contents.of(image);

        Path target = folder.resolve("disk.vhd");
        VhdWriter.write(image, target, false, done -> {}, ID, TIME);

        try (VhdImage written = VhdImage.open(target, Confinement.OWN_FOLDER)) {
            assertThat(Arrays.mismatch(Contents.of(written.flat()), expected)).isEqualTo(-1);
        }
        assertThat(Files.size(target)).isEqualTo(image.size() + 512);
    }

    @Test
    void theSameDeviceIdentityAndTimeMakeTheSameFile() throws IOException {
        FlatImage image = FlatImage.builder(512).zeros(4096).build();
        VhdWriter.write(image, folder.resolve("a.vhd"), false, done -> {}, ID, TIME);
        VhdWriter.write(image, folder.resolve("b.vhd"), false, done -> {}, ID, TIME);

        assertThat(folder.resolve("a.vhd")).hasSameBinaryContentAs(folder.resolve("b.vhd"));
    }

    @Test
    void zerosTakeNoSpace() throws IOException, InterruptedException {
        FlatImage image = FlatImage.builder(512)
                .zeros(1L << 40)
                .append(1 << 20, new Bytes("zeros that are stored", new byte[1 << 20]), 0)
                .build();
        Path target = folder.resolve("disk.vhd");
        VhdWriter.write(image, target, false, done -> {});

        assertThat(Files.size(target)).isEqualTo((1L << 40) + (1 << 20) + 512);
        Process stat = new ProcessBuilder("stat", "-c", "%b", target.toString()).start();
        String blocks = new String(stat.getInputStream().readAllBytes(), StandardCharsets.US_ASCII);
        assertThat(stat.waitFor()).isZero();
        assertThat(Long.parseLong(blocks.strip()))
                .as("512-byte blocks on the disk")
                .isLessThan(64);
    }

    @Test
    void aFailureLeavesTheFileThatWasThereAndNothingElse() throws IOException {
        Path target = Files.writeString(folder.resolve("disk.vhd"), "as it was");
        Path raw = Files.write(folder.resolve("raw"), new byte[8192]);
        try (RawImage source = RawImage.open(raw)) {
            Files.write(raw, new byte[4096]); // shorter than when it was opened
            assertThatThrownBy(() -> VhdWriter.write(source.flat(), target, true, done -> {}))
                    .isInstanceOf(ImageException.class);
        }
        assertThat(target).hasContent("as it was");
        try (var files = Files.list(folder)) {
            assertThat(files.map(file -> folder.relativize(file).toString()))
                    .containsExactlyInAnyOrder("disk.vhd", "raw");
        }
    }

    @Test
    void anExistingFileIsReplacedOnlyIfThatIsWanted() throws IOException {
        Path target = Files.writeString(folder.resolve("disk.vhd"), "precious");
        FlatImage image = FlatImage.builder(512).zeros(4096).build();
        assertThatThrownBy(() -> VhdWriter.write(image, target, false, done -> {}))
                .isInstanceOf(FileAlreadyExistsException.class);
        assertThat(target).hasContent("precious");
        VhdWriter.write(image, target, true, done -> {});
        assertThat(target).hasSize(4096 + 512);
    }

    @Test
    void aDeviceTooLargeForTheFormatIsRefused() {
        FlatImage image = FlatImage.builder(512).zeros(VhdWriter.MAX_SIZE + 512).build();
        assertThatThrownBy(() -> VhdWriter.write(image, folder.resolve("disk.vhd"), false, done -> {}))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("the limit of VHD");
        assertThat(folder).isEmptyDirectory();
    }
}

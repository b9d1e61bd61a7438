// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.source;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.erofs.ErofsBuilder;
import dev.erofsublk.composer.erofs.ErofsBuilder.Chunk;
import dev.erofsublk.composer.probe.Format;
import dev.erofsublk.composer.verity.Salt;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class ImageCheckTest {
    @TempDir
    private Path dir;

    private static ImageSource source(Path meta, List<Path> blobs) {
        return new ImageSource(null, meta, blobs, null, null, List.of(), null);
    }

    private static void require(Image image) throws Exception {
        try (ImageCheck check = ImageCheck.start(image)) {
            check.require();
            check.requireContents(image);
        }
    }

    /** A file whose second and third chunk are behind the blob's four blocks. */
    private Path damaged() throws Exception {
        byte[] meta = new ErofsBuilder(12)
                .slot("", 8, 4)
                .file("f", 3 * 4096, 0, List.of(new Chunk(1, 0), new Chunk(1, 4), new Chunk(1, 5)))
                .file("g", 4096, 0, List.of(new Chunk(1, 4)))
                .build();
        return Files.write(dir.resolve("meta"), meta);
    }

    private Path blob() throws Exception {
        return Files.write(dir.resolve("blob"), new byte[4 * 4096]);
    }

    @ParameterizedTest
    @EnumSource
    void aSoundImageIsNotRefused(Kind kind) throws Exception {
        ImageSource source = source(kind.meta(), kind.blobs());
        try (Image image = source.open()) {
            assertThatCode(() -> require(image)).doesNotThrowAnyException();
        }
        try (Image image = source.withVerity(Salt.NONE).open()) {
            assertThatCode(() -> require(image)).doesNotThrowAnyException();
        }
    }

    @Test
    void aChunkThatWouldReadWrongIsRefusedByNameAndTheOthersAreCounted() throws Exception {
        ImageSource source = source(damaged(), List.of(blob()));
        for (ImageSource each : List.of(source, source.withVerity(Salt.NONE))) {
            try (Image image = each.open()) {
                assertThatThrownBy(() -> require(image))
                        .isInstanceOf(ImageException.class)
                        .hasMessageMatching(
                                ".*chunk \\d of inode \\d+ is block \\d \\(\\+1\\) of slot 1, expected within its"
                                        + " 4 blocks \\(/[fg]\\); and \\d+ more, which 'erofs-ublk verify' lists");
            }
        }
    }

    @Test
    void whatIsInsideADiskImageIsItsOwnersBusiness() throws Exception {
        ImageSource source = new ImageSource(null, null, List.of(), damaged(), Format.RAW, List.of(), null);
        try (Image image = source.open()) {
            assertThatCode(() -> require(image)).doesNotThrowAnyException();
        }
    }

    /** Nothing of it can be looked at, and the kernel can read it. */
    @Test
    void anImageWhoseInodesAreInAMetaboxIsNotRefused() throws Exception {
        byte[] meta = new ErofsBuilder(12)
                .incompat(0x10c)
                .slot("", 8, 4)
                .file("f", 4096, 0, List.of(new Chunk(1, 9)))
                .build();
        ImageSource source = source(Files.write(dir.resolve("meta"), meta), List.of(blob()));
        try (Image image = source.open()) {
            assertThatCode(() -> require(image)).doesNotThrowAnyException();
        }
    }

    @Test
    void aBlobThatIsNotItsTagIsRefusedWhereContentsAreCompared() throws Exception {
        byte[] blob = Files.readAllBytes(Kind.C.blobs().getFirst());
        byte[] meta = Files.readAllBytes(Kind.C.meta());
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(blob);
        byte[] tag = HexFormat.of().formatHex(digest).getBytes(java.nio.charset.StandardCharsets.US_ASCII);
        System.arraycopy(tag, 0, meta, 1152, tag.length);
        meta[1032] &= ~1; // no checksum
        Path metaFile = Files.write(dir.resolve("m"), meta);
        blob[blob.length / 2] ^= 1;
        ImageSource source = source(metaFile, List.of(Files.write(dir.resolve("b"), blob)));
        try (Image image = source.open();
                ImageCheck check = ImageCheck.start(image)) {
            assertThatCode(check::require).doesNotThrowAnyException();
            assertThatThrownBy(() -> check.requireContents(image))
                    .isInstanceOf(ImageException.class)
                    .hasMessageContaining("b: sha256 is ");
        }
    }

    @Test
    void whoDoesNotWaitForTheEndMayCloseTheImageAllTheSame() throws Exception {
        for (int i = 0; i < 50; i++) {
            try (Image image = source(Kind.B.meta(), Kind.B.blobs()).open();
                    ImageCheck check = ImageCheck.start(image)) {
                assertThat(check).isNotNull();
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.erofs.ErofsImages;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What the reader shows equals the trees that the images were made of, which no code of this project has read. */
class SourceTreeTest {
    @ParameterizedTest
    @EnumSource
    void readerShowsTheSourceTree(Kind kind) throws Exception {
        try (ErofsImage image = ErofsImages.fromFiles(kind.meta(), kind.blobs())) {
            ErofsFileSystem fs = ErofsFileSystem.open(kind.id(), image.flat());
            Map<String, String> found = TreeListing.ofImage(fs, false);
            Map<String, String> expected = TreeListing.ofDirectory(kind.tree(), false);
            found.remove("/"); // whose mode a merge makes up
            expected.remove("/");
            assertThat(TreeListing.differences(found, expected)).isEmpty();
        }
    }

    @ParameterizedTest
    @EnumSource
    void walkFindsEveryFileAndNoProblem(Kind kind) throws Exception {
        try (ErofsImage image = ErofsImages.fromFiles(kind.meta(), kind.blobs())) {
            WalkReport report = Walk.run(ErofsFileSystem.open(kind.id(), image.flat()));
            assertThat(report.problems()).isEmpty();
            assertThat(report.inodes()).isEqualTo(inodes(kind.tree()));
        }
    }

    private static long inodes(Path tree) throws Exception {
        try (var files = java.nio.file.Files.walk(tree)) {
            return files.map(file -> {
                        try {
                            return java.nio.file.Files.getAttribute(
                                    file, "unix:ino", java.nio.file.LinkOption.NOFOLLOW_LINKS);
                        } catch (java.io.IOException e) {
                            throw new java.io.UncheckedIOException(e);
                        }
                    })
                    .distinct()
                    .count();
        }
    }
}

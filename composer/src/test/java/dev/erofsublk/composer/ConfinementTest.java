// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ConfinementTest {
    @TempDir
    Path root;

    private Path image;

    @BeforeEach
    void layFiles() throws IOException {
        Path own = Files.createDirectories(root.resolve("own/sub"));
        image = Files.writeString(root.resolve("own/disk.vmdk"), "descriptor");
        Files.writeString(root.resolve("own/extent"), "own extent");
        Files.writeString(own.resolve("extent"), "sub extent");
        Files.createDirectory(root.resolve("other"));
        Files.writeString(root.resolve("other/secret"), "secret");
        Files.createSymbolicLink(root.resolve("own/inside"), Path.of("sub/extent"));
        Files.createSymbolicLink(root.resolve("own/outside"), Path.of("../other/secret"));
        Files.createSymbolicLink(root.resolve("own/absolute"), root.resolve("other/secret"));
        Files.createSymbolicLink(root.resolve("own/folder"), root.resolve("other"));
        Files.createSymbolicLink(root.resolve("own/loop"), Path.of("loop"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"extent", "./extent", "sub/../extent", "../own/extent"})
    void aNameInTheOwnFolderIsOpened(String reference) throws IOException {
        assertThat(content(Confinement.OWN_FOLDER, reference)).isEqualTo("own extent");
    }

    @ParameterizedTest
    @ValueSource(strings = {"sub/extent", "inside"})
    void aSubfolderAndALinkThatStaysInsideAreOpened(String reference) throws IOException {
        assertThat(content(Confinement.OWN_FOLDER, reference)).isEqualTo("sub extent");
    }

    @Test
    void anAbsoluteNameIsOpenedOnlyWhereItLeadsInside() throws IOException {
        assertThat(content(Confinement.OWN_FOLDER, root.toRealPath() + "/own/extent"))
                .isEqualTo("own extent");
        refused(root.resolve("other/secret").toString(), "below");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "../other/secret",
                "sub/../../other/secret",
                "outside",
                "absolute",
                "folder/secret",
                "loop",
                "/etc/passwd",
                "/proc/self/environ",
                "..",
                "/"
            })
    void whatLeadsElsewhereIsRefused(String reference) {
        refused(reference, "below");
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "nul\0inside"})
    void whatIsNoNameIsRefused(String reference) {
        refused(reference, "name");
    }

    @ParameterizedTest
    @ValueSource(strings = {"nbd://host/export", "json:{\"driver\":\"nbd\"}", "fd:3", "|sh", "missing"})
    void aUrlIsJustANameOfAFileThatIsNotThere(String reference) {
        refused(reference, "a file that exists");
    }

    @ParameterizedTest
    @ValueSource(strings = {"sub", "."})
    void aDirectoryIsRefused(String reference) {
        refused(reference, "a regular file");
    }

    @Test
    void aFifoIsRefusedWithoutWaiting() throws Exception {
        Process mkfifo = new ProcessBuilder("mkfifo", root.resolve("own/fifo").toString()).start();
        assertThat(mkfifo.waitFor()).isZero();
        refused("fifo", "a regular file");
    }

    @Test
    void anAllowedFolderOpensItsFilesAndNoOthers() throws IOException {
        Confinement allowed = new Confinement(List.of(root.resolve("other")));
        assertThat(content(allowed, "../other/secret")).isEqualTo("secret");
        assertThat(content(allowed, root.toRealPath() + "/other/secret")).isEqualTo("secret");
        assertThat(content(allowed, "extent")).isEqualTo("own extent");
        Files.createSymbolicLink(root.resolve("other/back"), root.resolve("own/extent"));
        assertThatThrownBy(() -> allowed.open(image, "../other/back"))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("--allow-dir");
    }

    @Test
    void aRefusalNamesTheReferrerAndFitsInOneLine() {
        assertThatThrownBy(() -> Confinement.OWN_FOLDER.open(image, "../x\nforged: line"))
                .isInstanceOf(ImageException.class)
                .hasMessageStartingWith(image + ": file reference is \"../x?forged: line\"");
    }

    private void refused(String reference, String why) {
        assertThatThrownBy(() -> Confinement.OWN_FOLDER.open(image, reference))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining(why);
    }

    private String content(Confinement confinement, String reference) throws IOException {
        try (Blob blob = confinement.open(image, reference);
                Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocate(blob.size());
            blob.read(0, bytes);
            return new String(bytes.toArray(ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.export;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.erofs.ErofsImages;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class RawExportTest {
    @TempDir
    private Path dir;

    @ParameterizedTest
    @EnumSource(mode = EnumSource.Mode.EXCLUDE, names = "OLD")
    void exportIsThePlainConcatenation(Kind kind) throws Exception {
        try (ErofsImage image = ErofsImages.fromFiles(kind.meta(), kind.blobs())) {
            RawExport.write(image.flat(), dir.resolve("out"), false, done -> {});
        }
        assertThat(Files.mismatch(dir.resolve("out"), kind.raw())).isEqualTo(-1);
        assertThat(names()).containsExactly("out");
    }

    @Test
    void holesStayHoles() throws Exception {
        Path sparse = dir.resolve("sparse");
        try (FileChannel channel = FileChannel.open(sparse, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
            channel.write(ByteBuffer.wrap("data".getBytes(java.nio.charset.StandardCharsets.US_ASCII)), 3L << 30);
        }
        Path out = dir.resolve("out");
        try (Blob blob = Blob.open(sparse)) {
            FlatImage flat = FlatImage.builder(4096)
                    .append(1L << 30, blob, 0)
                    .zeros(1L << 40)
                    .append(blob.size() & -512, blob, 0)
                    .append(512, new Bytes("tail", new byte[512]), 0)
                    .build();
            List<Long> progress = new ArrayList<>();
            RawExport.write(flat, out, false, progress::add);
            assertThat(progress).isSorted().last().isEqualTo(flat.size());
            assertThat(Files.size(out)).isEqualTo(flat.size());
            assertThat(allocated(out)).isLessThan(1 << 20);
        }
    }

    @Test
    void bytesInTheMiddleOfASparseFileAreFound() throws Exception {
        Path sparse = dir.resolve("sparse");
        byte[] data = new byte[10_000];
        new java.util.Random(7).nextBytes(data);
        try (FileChannel channel = FileChannel.open(sparse, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
            channel.write(ByteBuffer.wrap(data), 1_000_000);
            channel.write(ByteBuffer.wrap(data), 2_097_152 - data.length);
        }
        try (Blob blob = Blob.open(sparse)) {
            // neither start nor end on a block of the file system
            FlatImage flat = FlatImage.builder(512).append(2_000_384, blob, 512).build();
            RawExport.write(flat, dir.resolve("out"), false, done -> {});
            byte[] all = Files.readAllBytes(dir.resolve("out"));
            byte[] source = Files.readAllBytes(sparse);
            assertThat(all).isEqualTo(java.util.Arrays.copyOfRange(source, 512, 512 + 2_000_384));
        }
    }

    @Test
    void anExistingFileIsReplacedOnlyIfThatIsWanted() throws Exception {
        Path out = Files.writeString(dir.resolve("out"), "precious");
        try (ErofsImage image = ErofsImages.fromFiles(Kind.C.meta(), Kind.C.blobs())) {
            assertThatThrownBy(() -> RawExport.write(image.flat(), out, false, done -> {}))
                    .isInstanceOf(FileAlreadyExistsException.class)
                    .hasMessageContaining("it exists already; --force would replace it");
            assertThat(Files.readString(out)).isEqualTo("precious");
            RawExport.write(image.flat(), out, true, done -> {});
            assertThat(Files.mismatch(out, Kind.C.raw())).isEqualTo(-1);
            assertThat(names()).containsExactly("out");
        }
    }

    @Test
    void aPartOfTheImageIsNeverReplaced() throws Exception {
        Path blob = Files.copy(Kind.C.blobs().getFirst(), dir.resolve("c.blob"));
        try (ErofsImage image = ErofsImages.fromFiles(Kind.C.meta(), List.of(blob))) {
            assertThatThrownBy(() -> RawExport.write(image.flat(), blob, true, done -> {}))
                    .isInstanceOf(FileSystemException.class)
                    .hasMessageContaining("it is a part of the image");
        }
        assertThat(Files.mismatch(blob, Kind.C.blobs().getFirst())).isEqualTo(-1);
    }

    @Test
    void aDirectoryIsNotReplaced() throws Exception {
        Path out = Files.createDirectory(dir.resolve("out"));
        try (ErofsImage image = ErofsImages.fromFiles(Kind.C.meta(), Kind.C.blobs())) {
            assertThatThrownBy(() -> RawExport.write(image.flat(), out, true, done -> {}))
                    .isInstanceOf(FileSystemException.class)
                    .hasMessageContaining("no regular file");
        }
    }

    @Test
    void nothingAppearsIfABlobIsTruncatedMeanwhile() throws Exception {
        Path path = Files.copy(Kind.C.blobs().getFirst(), dir.resolve("blob"));
        try (Blob blob = Blob.open(path)) {
            FlatImage flat =
                    FlatImage.builder(4096).append(blob.size(), blob, 0).build();
            truncate(path, 4096);
            assertThatThrownBy(() -> RawExport.write(flat, dir.resolve("out"), false, done -> {}))
                    .isInstanceOf(ImageException.class)
                    .hasMessageContaining("size is");
            assertThat(names()).containsExactly("blob");
        }
    }

    @Test
    void nothingAppearsIfABlobIsRewrittenMeanwhile() throws Exception {
        Path path = Files.copy(Kind.C.blobs().getFirst(), dir.resolve("blob"));
        Files.setLastModifiedTime(path, java.nio.file.attribute.FileTime.fromMillis(1000));
        try (Blob blob = Blob.open(path)) {
            FlatImage flat =
                    FlatImage.builder(4096).append(blob.size(), blob, 0).build();
            boolean[] written = {false};
            assertThatThrownBy(() -> RawExport.write(flat, dir.resolve("out"), false, done -> {
                        if (!written[0]) {
                            written[0] = true;
                            write(path);
                        }
                    }))
                    .isInstanceOf(ImageException.class)
                    .hasMessageContaining("modification time is");
            assertThat(names()).containsExactly("blob");
        }
    }

    private static void write(Path path) {
        try {
            Files.write(path, new byte[1], StandardOpenOption.WRITE);
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    private List<String> names() throws IOException {
        try (var files = Files.list(dir)) {
            return files.map(file -> file.getFileName().toString()).sorted().toList();
        }
    }

    private static void truncate(Path path, long bytes) throws IOException {
        int fd = Linux.open(path.toString(), Linux.O_RDWR);
        Linux.truncate(fd, bytes);
        Linux.close(fd);
    }

    /** Bytes that the file takes on the disk, counted by where its data are. */
    private static long allocated(Path path) throws IOException {
        int fd = Linux.open(path.toString(), Linux.O_RDONLY);
        try {
            long sum = 0;
            for (long at = Linux.seekData(fd, 0); at >= 0; at = Linux.seekData(fd, at)) {
                long hole = Linux.seekHole(fd, at);
                sum += hole - at;
                at = hole;
            }
            return sum;
        } finally {
            Linux.close(fd);
        }
    }
}

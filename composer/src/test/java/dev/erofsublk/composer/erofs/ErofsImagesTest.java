// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.TestImages;
import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class ErofsImagesTest {
    @TempDir
    private Path dir;

    @ParameterizedTest
    @EnumSource(mode = EnumSource.Mode.EXCLUDE, names = "OLD")
    void composedDeviceIsThePlainConcatenation(Kind kind) throws Exception {
        try (ErofsImage image = ErofsImages.fromFiles(kind.meta(), kind.blobs())) {
            Path out = dir.resolve("out");
            TestImages.writeAll(image.flat(), out);
            assertThat(Files.mismatch(out, kind.raw())).isEqualTo(-1);
            assertThat(image.repairs()).isEmpty();
        }
    }

    @ParameterizedTest
    @EnumSource(mode = EnumSource.Mode.EXCLUDE, names = "OLD")
    void mappedDeviceIsThePlainConcatenation(Kind kind) throws Exception {
        try (ErofsImage image = ErofsImages.fromFiles(kind.meta(), kind.blobs());
                AddressSpace space = AddressSpace.map(image.flat())) {
            Path out = Files.createFile(dir.resolve("out"));
            int fd = Linux.open(out.toString(), Linux.O_RDWR);
            TestImages.writeMapped(space, 0, space.size(), fd, 0);
            Linux.close(fd);
            assertThat(Files.mismatch(out, kind.raw())).isEqualTo(-1);
        }
    }

    @Test
    void blockSizeOfTheDeviceIsThatOfTheImage() throws Exception {
        try (ErofsImage a = ErofsImages.fromFiles(Kind.A.meta(), Kind.A.blobs());
                ErofsImage b = ErofsImages.fromFiles(Kind.B.meta(), Kind.B.blobs())) {
            assertThat(a.flat().blockSize()).isEqualTo(512);
            assertThat(b.flat().blockSize()).isEqualTo(4096);
        }
    }

    @Test
    void layersAreFoundByTheUuidThatIsTheirTag() throws Exception {
        try (ErofsImage image = ErofsImages.fromDirectory(Kind.B.directory(), null)) {
            assertThat(image.devices().stream()
                            .map(device -> Path.of(device.blob().name()))
                            .toList())
                    .isEqualTo(Kind.B.blobs());
        }
    }

    @Test
    void blobsAreFoundByTheirNameWhereThatIsTheTag() throws Exception {
        try (ErofsImage image = ErofsImages.fromFiles(Kind.B.meta(), Kind.B.blobs())) {
            Files.copy(Kind.B.meta(), dir.resolve("image"));
            for (ErofsImage.Device device : image.devices()) {
                Files.copy(
                        Path.of(device.blob().name()), dir.resolve(device.slot().tag()));
            }
        }
        try (ErofsImage image = ErofsImages.fromDirectory(dir, null)) {
            assertThat(image.devices()).hasSize(3);
        }
    }

    @Test
    void aSlotWithoutAddressIsPlacedBehindTheMetadataInTheServedCopyOnly() throws Exception {
        byte[] before = Files.readAllBytes(Kind.OLD.meta());
        try (ErofsImage image = ErofsImages.fromFiles(Kind.OLD.meta(), Kind.OLD.blobs())) {
            assertThat(image.repairs()).containsExactly("slot 1: uniaddr 0, blocks 0 served as uniaddr 5, blocks 3072");
            Path out = dir.resolve("out");
            TestImages.writeAll(image.flat(), out);
            try (var served = dev.erofsublk.composer.Blob.open(out)) {
                Superblock superblock = Superblock.read(served); // which proves the checksum
                assertThat(DeviceSlot.readAll(served, superblock).getFirst().block())
                        .isEqualTo(5);
            }
            byte[] all = Files.readAllBytes(out);
            byte[] blob = Files.readAllBytes(Kind.OLD.blobs().getFirst());
            assertThat(java.util.Arrays.mismatch(all, 5 * 4096, 5 * 4096 + blob.length, blob, 0, blob.length))
                    .isEqualTo(-1);
        }
        assertThat(Files.readAllBytes(Kind.OLD.meta())).isEqualTo(before);
    }

    @Test
    void whereTagsAreEmptyTheOrderHasToBeGiven() {
        refused(() -> ErofsImages.fromDirectory(Kind.C.directory(), null))
                .hasMessageContaining("c.erofs: device slot 1 tag is empty")
                .hasMessageContaining("--meta FILE --blob FILE");
    }

    @Test
    void aDirectoryWithoutAnImageIsRefused() {
        refused(() -> ErofsImages.fromDirectory(dir, null))
                .hasMessage(dir + ": metadata image is missing in a directory without files, expected a file with an"
                        + " EROFS superblock");
    }

    @Test
    void aDirectoryWithTwoImagesIsRefusedAndBothAreNamed() throws Exception {
        Files.copy(Kind.B.meta(), dir.resolve("one"));
        Files.copy(Kind.C.meta(), dir.resolve("two"));
        refused(() -> ErofsImages.fromDirectory(dir, null))
                .hasMessage(dir + ": metadata image is one and two, expected one of them: name it with --meta FILE");
    }

    @Test
    void twoFilesForOneTagAreRefused() throws Exception {
        copyOfB();
        Files.copy(dir.resolve("l2.erofs"), dir.resolve("another"));
        refused(() -> ErofsImages.fromDirectory(dir, null)).hasMessageContaining("is another and l2.erofs");
    }

    @Test
    void aMissingLayerIsNamedByItsTag() throws Exception {
        copyOfB();
        Files.delete(dir.resolve("l2.erofs"));
        refused(() -> ErofsImages.fromDirectory(dir, null)).hasMessageContaining("blob of device slot 2 is missing");
    }

    @Test
    void swappedLayersAreRefused() {
        List<Path> blobs = Kind.B.blobs();
        refused(() -> ErofsImages.fromFiles(Kind.B.meta(), List.of(blobs.get(1), blobs.get(0), blobs.get(2))))
                .hasMessageContaining("l2.erofs: superblock.uuid is")
                .hasMessageContaining("the tag of slot 1");
    }

    @Test
    void aBlobShorterThanItsSlotIsRefused() throws Exception {
        Path blob = Files.copy(Kind.C.blobs().getFirst(), dir.resolve("short"));
        truncate(blob, Files.size(blob) - 4096);
        refused(() -> ErofsImages.fromFiles(Kind.C.meta(), List.of(blob)))
                .hasMessageContaining("short: size is")
                .hasMessageContaining("blocks of slot 1");
    }

    @Test
    void whatIsAppendedToALayerIsCutAndNotServed() throws Exception {
        copyOfB();
        Files.write(dir.resolve("l1.erofs"), new byte[16384], StandardOpenOption.APPEND);
        try (ErofsImage image = ErofsImages.fromDirectory(dir, null)) {
            Path out = dir.resolve("out");
            TestImages.writeAll(image.flat(), out);
            assertThat(Files.mismatch(out, Kind.B.raw())).isEqualTo(-1);
        }
    }

    @Test
    void tooManyOrTooFewBlobsAreRefused() {
        refused(() -> ErofsImages.fromFiles(Kind.C.meta(), List.of()))
                .hasMessageContaining(
                        "superblock.extra_devices is 1, expected as many as the blobs given, which are 0");
        refused(() -> ErofsImages.fromFiles(Kind.PLAIN.meta(), Kind.C.blobs()))
                .hasMessageContaining("superblock.extra_devices is 0");
    }

    @Test
    void aTruncatedImageIsRefused() throws Exception {
        Path meta = Files.copy(Kind.B.meta(), dir.resolve("meta"));
        for (long size : new long[] {0, 1, 1023, 1151, 1152, 4095, 4096, Files.size(meta) - 1}) {
            Files.copy(Kind.B.meta(), meta, StandardCopyOption.REPLACE_EXISTING);
            truncate(meta, size);
            refused(() -> ErofsImages.fromFiles(meta, Kind.B.blobs()));
        }
    }

    @Test
    void aChangedByteUnderTheChecksumIsRefused() throws Exception {
        Path meta = dir.resolve("meta");
        for (int at : new int[] {1024 + 9, 1024 + 36, 1152, 1152 + 64, 4095}) {
            byte[] bytes = Files.readAllBytes(Kind.B.meta());
            bytes[at] ^= 1;
            Files.write(meta, bytes);
            refused(() -> ErofsImages.fromFiles(meta, Kind.B.blobs())).hasMessageContaining("superblock.checksum is");
        }
    }

    @Test
    void aTextFileIsNoImage() throws Exception {
        Path text = Files.writeString(dir.resolve("notes.txt"), "no image\n".repeat(1000));
        refused(() -> ErofsImages.fromFiles(text, List.of()))
                .hasMessageContaining("notes.txt: superblock.magic is 0x")
                .hasMessageContaining("an EROFS image");
    }

    @Test
    void aRefusalLeavesNoFileOpen() throws Exception {
        for (int i = 0; i < 50; i++) {
            refused(() -> ErofsImages.fromFiles(Kind.B.meta(), Kind.C.blobs()));
        }
        assertThat(openFiles(Kind.B.meta())).isZero();
    }

    private static long openFiles(Path file) throws IOException {
        try (var fds = Files.list(Path.of("/proc/self/fd"))) {
            return fds.filter(fd -> {
                        try {
                            return Files.readSymbolicLink(fd).equals(file.toAbsolutePath());
                        } catch (IOException closedMeanwhile) {
                            return false;
                        }
                    })
                    .count();
        }
    }

    private void copyOfB() throws IOException {
        Files.copy(Kind.B.meta(), dir.resolve("b.erofs"));
        for (Path blob : Kind.B.blobs()) {
            Files.copy(blob, dir.resolve(blob.getFileName()));
        }
    }

    private static void truncate(Path file, long size) throws IOException {
        int fd = Linux.open(file.toString(), Linux.O_RDWR);
        Linux.truncate(fd, size);
        Linux.close(fd);
    }

    private interface Opening {
        ErofsImage open() throws IOException;
    }

    private static org.assertj.core.api.AbstractThrowableAssert<?, ? extends Throwable> refused(Opening opening) {
        return assertThatThrownBy(() -> opening.open().close()).isInstanceOf(ImageException.class);
    }
}

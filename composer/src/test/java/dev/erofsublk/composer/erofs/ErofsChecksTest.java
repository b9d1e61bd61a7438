// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.TestImages;
import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.erofs.ErofsBuilder.Chunk;
import dev.erofsublk.composer.erofs.fs.ErofsFileSystem;
import dev.erofsublk.composer.erofs.fs.Walk;
import dev.erofsublk.composer.erofs.fs.WalkReport;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.List;
import java.util.zip.GZIPOutputStream;
import org.assertj.core.api.AbstractThrowableAssert;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The sixteen ways in which a composed image can be wrong, in the order of {@code docs/checks.md}. */
class ErofsChecksTest {
    private static final String UUID_A = "0123456789abcdef0123456789abcdef";

    @TempDir
    private Path dir;

    // 1: the table lies behind the superblock and in the metadata

    @Test
    void c01aTableInsideTheSuperblockIsRefused() throws Exception {
        byte[] image = builder().slot("", 8, 1).build();
        image[1024 + 88] = 8;
        ErofsBuilder.sign(image);
        refused(image, blob(4096))
                .hasMessageEndingWith(
                        "superblock.devt_slotoff is 8 (byte 1024), expected a table behind the superblock, from byte 1152 on");
    }

    @Test
    void c01aTableBeyondTheMetadataIsRefused() throws Exception {
        byte[] image = builder().slot("", 8, 1).build();
        image[1024 + 88] = (byte) (image.length / 128 - 1);
        image[1024 + 86] = 2;
        ErofsBuilder.sign(image);
        refused(image, blob(4096), blob(4096)).hasMessageContaining("expected a table within the image's");
    }

    @Test
    void c01aTableBehindTheCountedBlocksIsRefused() throws Exception {
        byte[] image = builder().slot("", 40, 1).padding(8192).blocks(2).build();
        image[1024 + 88] = (byte) (8192 / 128);
        ErofsBuilder.sign(image);
        refused(image, blob(4096)).hasMessageContaining("expected a table within the metadata's 8192 bytes");
    }

    // 2: as many blobs as slots

    @Test
    void c02aMissingOrSpareBlobIsRefused() throws Exception {
        byte[] image = builder().slot("", 8, 1).slot("", 9, 1).build();
        refused(image, blob(4096))
                .hasMessageEndingWith(
                        "superblock.extra_devices is 2, expected as many as the blobs given, which are 1");
        refused(image, blob(4096), blob(4096), blob(4096)).hasMessageEndingWith("which are 3");
    }

    // 3: a slot without address or length is repaired in what is served, or refused where that is impossible

    @Test
    void c03slotsWithoutAddressArePlacedOneBehindTheOther() throws Exception {
        byte[] image = builder().slot("", 0, 0).slot("", 0, 3).build();
        try (ErofsImage composed = compose(image, blob(5000), blob(12288))) {
            long first = image.length >> 12;
            assertThat(composed.devices().get(0).slot()).isEqualTo(new DeviceSlot(1, "", first, 2));
            assertThat(composed.devices().get(1).slot()).isEqualTo(new DeviceSlot(2, "", first + 2, 3));
            assertThat(composed.repairs()).hasSize(2);
        }
    }

    @Test
    void c03aSlotOfATreeWithoutDataIsNoError() throws Exception {
        try (ErofsImage composed = compose(builder().slot("", 8, 0).build(), blob(0))) {
            assertThat(composed.repairs()).isEmpty();
            assertThat(composed.flat().extentCount()).isEqualTo(1);
        }
    }

    // 4: nothing overlaps

    @Test
    void c04aSlotInsideTheMetadataIsRefused() throws Exception {
        refused(builder().slot("", 1, 1).build(), blob(4096))
                .hasMessageEndingWith("device slot 1 uniaddr is 1 (byte 4096), expected at least byte 8192,"
                        + " the end of the metadata");
    }

    @Test
    void c04overlappingSlotsAreRefusedInWhateverOrder() throws Exception {
        refused(builder().slot("", 10, 3).slot("", 8, 3).build(), blob(12288), blob(12288))
                .hasMessageEndingWith(
                        "device slot 1 uniaddr is 10 (byte 40960), expected at least byte 45056, the end of slot 2");
    }

    // 5: addresses fit their fields and the kernel's offsets

    @Test
    void c05anAddressPastItsFieldIsRefused() throws Exception {
        refused(builder().slot("", 0xffffffffL, 2).build(), sparse(1 << 20))
                .hasMessageContaining("device slot 1 uniaddr is 4294967295 (+2 blocks), expected an end within 2^32");
        refused(builder().incompat(0x8c).slot("", 0xffffffffffffL, 2).build(), sparse(1 << 20))
                .hasMessageContaining("expected an end within 2^48 blocks and 2^63 bytes");
        refused(new ErofsBuilder(16).incompat(0x8c).slot("", 1L << 47, 1).build(), sparse(65536))
                .hasMessageContaining("device slot 1 uniaddr is 140737488355328 (+1 blocks), expected an end within");
    }

    @Test
    void c05aWideAddressCountsOnlyWithItsFeature() throws Exception {
        try (ErofsImage composed =
                compose(builder().incompat(0x8c).slot("", 1L << 32, 1).build(), blob(4096))) {
            assertThat(composed.flat().size()).isEqualTo((1L << 44) + 4096);
        }
    }

    @Test
    void c05moreBlocksThanADeviceCanHaveAreRefused() throws Exception {
        byte[] image = new ErofsBuilder(16)
                .incompat(0x8c)
                .slot("", 1L << 40, 1)
                .blocks(0xffff_ffff_ffffL)
                .build();
        refused(image, sparse(65536)).hasMessageContaining("superblock.blocks is 281474976710655, expected a device");
    }

    // 6: a blob has all bytes of its slot

    @Test
    void c06aBlobThatIsABlockShortIsRefused() throws Exception {
        refused(builder().slot("", 8, 2).build(), blob(8191))
                .hasMessageEndingWith("size is 8191 bytes, expected at least 8192, the 2 blocks of slot 1");
    }

    // 7: what is behind a slot's bytes is cut

    @Test
    void c07whatFollowsASlotsBytesIsNotServed() throws Exception {
        byte[] image = builder().slot("", 8, 1).slot("", 9, 1).build();
        Path first = blob(4096);
        Files.write(first, filled(16384, 'x'), StandardOpenOption.APPEND);
        try (ErofsImage composed = compose(image, first, blob(4096))) {
            assertThat(composed.flat().size()).isEqualTo(10 * 4096);
            assertThat(composed.devices().getFirst().cut(12)).isEqualTo(16384);
            Path out = dir.resolve("out");
            TestImages.writeAll(composed.flat(), out);
            byte[] all = Files.readAllBytes(out);
            assertThat(Arrays.copyOfRange(all, 9 * 4096, 10 * 4096)).isEqualTo(filled(4096, 'b'));
        }
    }

    // 8: the layers are in the order of their tags

    @Test
    void c08aLayerInAnothersPlaceIsRefused() throws Exception {
        List<Path> b = Kind.B.blobs();
        assertThatThrownBy(() -> ErofsImages.fromFiles(Kind.B.meta(), List.of(b.get(2), b.get(1), b.get(0))))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("l3.erofs: superblock.uuid is")
                .hasMessageContaining("the tag of slot 1");
    }

    @Test
    void c08layersWithoutUuidAreToldApartByTheirLength() throws Exception {
        String zeros = "0".repeat(32);
        Path one = file(new ErofsBuilder(12).build());
        Path two = file(new ErofsBuilder(12).padding(4096).build());
        long a = Files.size(one) >> 12;
        long b = Files.size(two) >> 12;
        byte[] image = builder().slot(zeros, 8, a).slot(zeros, 8 + a, b).build();
        compose(image, one, two).close();
        refused(image, two, one).hasMessageContaining("superblock.blocks is " + b + ", expected " + a + ", those of");
    }

    @Test
    void c08aTarInAnothersPlaceIsFoundByTheHeadersBeforeItsFiles() throws Exception {
        Path one = copy(Kind.B2.blobs().get(0));
        Path three = copy(Kind.B2.blobs().get(2));
        Files.write(one, new byte[1 << 20], StandardOpenOption.APPEND);
        Files.write(three, new byte[1 << 20], StandardOpenOption.APPEND);
        try (ErofsImage right = ErofsImages.fromFiles(
                        Kind.B2.meta(), List.of(one, Kind.B2.blobs().get(1), three));
                ErofsImage swapped = ErofsImages.fromFiles(
                        Kind.B2.meta(), List.of(three, Kind.B2.blobs().get(1), one))) {
            assertThat(walk(right).problems()).isEmpty();
            WalkReport report = walk(swapped);
            assertThat(report.problems())
                    .anySatisfy(problem -> assertThat(problem.message())
                            .contains("slot 1: tar header before the data of inode")
                            .contains("is it the tar that was indexed?"));
        }
    }

    // 9: tags that name nothing or the same

    @Test
    void c09twoSlotsOfOneTagAreRefusedWhereTagsDecide() throws Exception {
        Files.write(
                dir.resolve("meta"),
                builder().slot(UUID_A, 8, 1).slot(UUID_A, 9, 1).build());
        Files.write(dir.resolve(UUID_A), filled(4096, 'a'));
        assertThatThrownBy(() -> ErofsImages.fromDirectory(dir, null))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("device slot 2 tag is " + UUID_A + ", as in slot 1");
    }

    @Test
    void c09aClearedTagIsRefusedWhereTagsDecide() throws Exception {
        Files.write(dir.resolve("meta"), builder().slot("0".repeat(32), 8, 1).build());
        assertThatThrownBy(() -> ErofsImages.fromDirectory(dir, null))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("device slot 1 tag is 00000000000000000000000000000000, expected a tag that");
    }

    @Test
    void c09oneFileForTwoSlotsOfDifferentLengthIsRefused() throws Exception {
        Path blob = blob(8192);
        refused(builder().slot("", 8, 1).slot("", 9, 2).build(), blob, blob)
                .hasMessageContaining("blob of device slot 2 is that of slot 1 too, which has 1 blocks");
        compose(builder().slot("", 8, 2).slot("", 10, 2).build(), blob, blob).close();
    }

    // 10: every chunk is on a device that exists, and within it

    @Test
    void c10aChunkOnADeviceThatIsNotThereIsFound() throws Exception {
        byte[] image = builder()
                .slot("", 8, 1)
                .slot("", 9, 1)
                .file("f", 4096, 0, List.of(new Chunk(3, 0)))
                .build();
        assertThat(problems(image, blob(4096), blob(4096)))
                .containsExactly("chunk 0 of inode 46 is on device 3, expected one of 2 (/f)");
    }

    @Test
    void c10aChunkBeyondItsDeviceIsFound() throws Exception {
        byte[] image = builder()
                .slot("", 8, 4)
                .file("f", 3 * 4096, 1, List.of(new Chunk(1, 0), new Chunk(1, 4)))
                .build();
        assertThat(problems(image, blob(16384)))
                .containsExactly("chunk 1 of inode 42 is block 4 (+1) of slot 1, expected within its 4 blocks (/f)");
    }

    @Test
    void c10theLastChunkNeedsOnlyTheBlocksThatTheFileHas() throws Exception {
        byte[] image = builder()
                .slot("", 8, 4)
                .file("f", 3 * 4096, 1, List.of(new Chunk(1, 0), new Chunk(1, 3)))
                .build();
        assertThat(problems(image, blob(16384))).isEmpty();
    }

    @Test
    void c10aChunkOfTheUnifiedSpaceMustNotLieInAGap() throws Exception {
        byte[] image = builder()
                .slot("", 16, 1)
                .file("f", 4096, 0, List.of(new Chunk(0, 9)))
                .file("g", 4096, 0, List.of(new Chunk(0, 16)))
                .build();
        assertThat(problems(image, blob(4096)))
                .containsExactly("chunk 0 of inode 42 is block 9 (+1), expected within the metadata or one slot (/f)");
    }

    // 11 and 12: block sizes

    @Test
    void c11aLayerOfAnotherBlockSizeIsRefused() throws Exception {
        Path layer = file(new ErofsBuilder(9).build());
        refused(builder().slot("0".repeat(32), 8, Files.size(layer) >> 12).build(), layer)
                .hasMessageContaining("block size is 512, expected 4096, that of");
    }

    @Test
    void c12theDevicesBlocksAreNotLongerThanTheFileSystems() throws Exception {
        for (int bits = 9; bits <= 12; bits++) {
            try (ErofsImage composed = compose(new ErofsBuilder(bits).build())) {
                assertThat(composed.flat().blockSize()).isEqualTo(1 << bits);
            }
        }
        byte[] image = builder().build();
        image[1024 + 12] = 17;
        refused(image).hasMessageContaining("superblock.blkszbits is 17, expected 9 to 16");
    }

    // 13: the metadata has all of its blocks

    @Test
    void c13metadataShorterThanItsBlocksAreRefused() throws Exception {
        byte[] image = builder().slot("", 20, 1).padding(8192).build();
        refused(Arrays.copyOf(image, image.length - 1), blob(4096))
                .hasMessageContaining("size is " + (image.length - 1) + " bytes, expected at least " + image.length);
    }

    // 14: a blob has no table of its own

    @Test
    void c14aBlobWithADeviceTableIsRefused() throws Exception {
        Path layer = file(builder().slot("", 8, 1).build());
        refused(builder().slot("0".repeat(32), 8, Files.size(layer) >> 12).build(), layer)
                .hasMessageContaining("superblock.extra_devices is 1, expected 0: the blob of slot 1 holds data");
    }

    @Test
    void c14aBlobOfFilesMayBeginWithSomebodysImage() throws Exception {
        Path blob = file(new ErofsBuilder(9).slot("", 16, 1).build());
        compose(builder().slot("", 8, Files.size(blob) >> 12).build(), blob).close();
    }

    @Test
    void c14theMetadataIsNotItsOwnBlob() throws Exception {
        Path meta = file(builder().slot("", 8, 1).build());
        assertThatThrownBy(() -> ErofsImages.fromFiles(meta, List.of(meta)).close())
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("blob of device slot 1 is the metadata image itself");
    }

    // 15: a compressed file where the raw one is meant

    @Test
    void c15aGzipGivenForItsTarIsRefusedAndNamed() throws Exception {
        Path zipped = gzip(Kind.A.blobs().getFirst());
        assertThatThrownBy(() -> ErofsImages.fromFiles(Kind.A.meta(), List.of(zipped)))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("content is gzip-compressed, ")
                .hasMessageContaining("expected the uncompressed data of slot 1, 4577280 bytes");
        Files.write(zipped, new byte[8 << 20], StandardOpenOption.APPEND); // long enough: still no tar
        assertThatThrownBy(() -> ErofsImages.fromFiles(Kind.A.meta(), List.of(zipped)))
                .hasMessageContaining("content is gzip-compressed, ");
    }

    @Test
    void c15aBlobOfFilesMayBeginWithACompressedOne() throws Exception {
        Path blob = blob(8192);
        byte[] bytes = Files.readAllBytes(blob);
        bytes[0] = 0x1f;
        bytes[1] = (byte) 0x8b;
        bytes[2] = 8;
        Files.write(blob, bytes);
        compose(builder().slot("", 8, 2).build(), blob).close();
    }

    @Test
    void c15aCompressedMetadataImageIsNamed() {
        assertThatThrownBy(() -> ErofsImages.fromFiles(gzip(Kind.C.meta()), Kind.C.blobs()))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("in a file of gzip-compressed data, expected 0xe0f5e1e2 at byte 1024");
    }

    // 16: what was checked is what is served

    @Test
    void c16aTruncatedOrRewrittenBlobIsNoticed() throws Exception {
        Path path = blob(8192);
        try (Blob blob = Blob.open(path)) {
            assertThat(blob.changed()).isEmpty();
            Files.write(path, filled(4096, 'x'), StandardOpenOption.WRITE);
            Files.setLastModifiedTime(path, java.nio.file.attribute.FileTime.fromMillis(1));
            assertThat(blob.changed())
                    .hasValueSatisfying(change -> assertThat(change)
                            .hasMessageContaining("modification time is 1970-01-01T00:00:00.001Z, expected "));
            int fd = Linux.open(path.toString(), Linux.O_RDWR);
            Linux.truncate(fd, 100);
            Linux.close(fd);
            assertThat(blob.changed())
                    .hasValueSatisfying(change ->
                            assertThat(change).hasMessageContaining("size is 100 bytes, expected 8192, as when"));
        }
    }

    @Test
    void c16aBlobReplacedUnderItsNameIsServedOn() throws Exception {
        Path path = blob(8192);
        try (Blob blob = Blob.open(path)) {
            Files.delete(path);
            Files.write(path, new byte[1]);
            assertThat(blob.changed()).isEmpty();
        }
    }

    // and all files are closed, also those of which nothing is served

    @Test
    void closingAnImageClosesAllOfItsFiles() throws Exception {
        Path empty = blob(0);
        Path meta = file(builder().slot("", 8, 0).build());
        ErofsImages.fromFiles(meta, List.of(empty)).close();
        try (var open = Files.list(Path.of("/proc/self/fd"))) {
            List<String> targets = open.map(fd -> {
                        try {
                            return Files.readSymbolicLink(fd).toString();
                        } catch (IOException closedMeanwhile) {
                            return "";
                        }
                    })
                    .toList();
            assertThat(targets).doesNotContain(empty.toString(), meta.toString());
        }
    }

    // ---- helpers ----

    private static ErofsBuilder builder() {
        return new ErofsBuilder(12);
    }

    private int files;

    private Path file(byte[] content) throws IOException {
        return Files.write(dir.resolve("file" + files++), content);
    }

    /** A blob whose bytes say which it is: a, b, c ... */
    private Path blob(int bytes) throws IOException {
        Path path = dir.resolve("blob" + files++);
        return Files.write(path, filled(bytes, 'a' + blobs++));
    }

    private int blobs;

    private static byte[] filled(int bytes, int value) {
        byte[] content = new byte[bytes];
        Arrays.fill(content, (byte) value);
        return content;
    }

    private Path sparse(long bytes) throws IOException {
        Path path = file(new byte[0]);
        int fd = Linux.open(path.toString(), Linux.O_RDWR);
        Linux.truncate(fd, bytes);
        Linux.close(fd);
        return path;
    }

    private Path copy(Path from) throws IOException {
        return Files.copy(from, dir.resolve("copy" + files++));
    }

    private Path gzip(Path from) throws IOException {
        Path to = dir.resolve("zipped" + files++);
        try (OutputStream out = new GZIPOutputStream(Files.newOutputStream(to))) {
            Files.copy(from, out);
        }
        return to;
    }

    private ErofsImage compose(byte[] image, Path... blobFiles) throws IOException {
        return ErofsImages.fromFiles(file(image), List.of(blobFiles));
    }

    private AbstractThrowableAssert<?, ? extends Throwable> refused(byte[] image, Path... blobFiles) {
        return assertThatThrownBy(() -> compose(image, blobFiles).close()).isInstanceOf(ImageException.class);
    }

    private static WalkReport walk(ErofsImage image) throws IOException {
        return Walk.run(ErofsFileSystem.open("image", image.flat()));
    }

    private List<String> problems(byte[] image, Path... blobFiles) throws IOException {
        try (ErofsImage composed = compose(image, blobFiles)) {
            return walk(composed).problems().stream()
                    .map(problem -> problem.toString().substring("image: ".length()))
                    .toList();
        }
    }
}

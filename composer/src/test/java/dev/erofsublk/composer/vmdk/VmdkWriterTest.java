// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What is written, read by this project and by others. */
class VmdkWriterTest {
    private static final int SECTOR = 512;

    @TempDir
    Path folder;

    private final long seed = System.nanoTime();
    private final Random random = new Random(seed);
    private Path out;

    @BeforeEach
    void printSeed() {
        System.out.println("VmdkWriterTest seed " + seed);
        out = folder.resolve("out.vmdk");
    }

    private Blob blob(String name, int bytes) throws IOException {
        byte[] content = new byte[bytes];
        random.nextBytes(content);
        return Blob.open(Files.write(folder.resolve(name), content));
    }

    /** Extents of every kind, of random lengths and offsets. */
    private FlatImage randomImage() throws IOException {
        FlatImage.Builder b = FlatImage.builder(SECTOR);
        List<Blob> blobs = List.of(blob("a", 3 << 20), blob("b with blanks", 1 << 20), blob("c=ü", 70000));
        for (int i = 0; i < 60; i++) {
            long length = SECTOR * (1L + random.nextInt(300));
            switch (random.nextInt(5)) {
                case 0 -> b.zeros(length * 10);
                case 1 -> {
                    byte[] bytes = new byte[(int) length];
                    random.nextBytes(bytes);
                    b.append(length, new Bytes("patch", bytes), 0);
                }
                default -> {
                    Blob blob = blobs.get(random.nextInt(3));
                    long part = Math.min(length, blob.size() / SECTOR / 2 * SECTOR);
                    long offset = random.nextLong(blob.size() - part);
                    b.append(part, blob, random.nextInt(4) == 0 ? offset : offset / SECTOR * SECTOR);
                }
            }
        }
        return b.build();
    }

    private void assertQemuReads(Path vmdk, byte[] expected) throws IOException {
        Path raw = Files.write(folder.resolve("expected.raw"), expected);
        String said = new Tool("qemu-img").run(folder, "compare", "-f", "vmdk", "-F", "raw", vmdk, raw);
        assertThat(said).contains("Images are identical").doesNotContain("size mismatch");
    }

    @Test
    void aDescriptorOverAnyImageIsReadRight() throws IOException {
        for (int round = 0; round < 5; round++) {
            try (FlatImage image = randomImage()) {
                byte[] expected = Content.bytes(image);
                VmdkDescriptorWriter.write(image, out, true);
                Content.assertSame("round " + round + ", seed " + seed, Content.bytes(out), expected);
            }
        }
    }

    @Test
    void aDescriptorOverAnyImageIsReadRightByQemu() throws IOException {
        for (int round = 0; round < 3; round++) {
            try (FlatImage image = randomImage()) {
                VmdkDescriptorWriter.write(image, out, true);
                assertQemuReads(out, Content.bytes(image));
            }
        }
    }

    @Test
    void onlyFlatLinesAreWrittenAndSplitAtTwoGibibytes() throws IOException {
        Path big = folder.resolve("big");
        try (RandomAccessFile file = new RandomAccessFile(big.toFile(), "rw")) {
            file.setLength(5L << 30);
        }
        FlatImage.Builder b = FlatImage.builder(SECTOR);
        b.append(5L << 30, Blob.open(big), 0).zeros((2L << 30) + SECTOR);
        try (FlatImage image = b.build()) {
            VmdkDescriptorWriter.write(image, out, true);
        }
        Path real = folder.toRealPath();
        assertThat(Files.readAllLines(out))
                .filteredOn(line -> line.contains("FLAT"))
                .containsExactly(
                        "RW 4194304 FLAT \"" + real + "/big\" 0",
                        "RW 4194304 FLAT \"" + real + "/big\" 4194304",
                        "RW 2097152 FLAT \"" + real + "/big\" 8388608",
                        "RW 4194304 FLAT \"" + real + "/out-zeros.raw\" 0",
                        "RW 1 FLAT \"" + real + "/out-zeros.raw\" 0");
        assertThat(Files.readAllLines(out)).noneMatch(line -> line.contains("ZERO"));
        assertThat(folder.resolve("out-zeros.raw")).hasSize(2L << 30);
        try (VmdkImage image = Content.open(out, Confinement.OWN_FOLDER)) {
            assertThat(image.flat().size()).isEqualTo((7L << 30) + SECTOR);
        }
    }

    @Test
    void theContentIdChangesWithTheContent() throws IOException {
        try (FlatImage first = FlatImage.builder(SECTOR)
                        .append(SECTOR, new Bytes("x", new byte[SECTOR]), 0)
                        .build();
                FlatImage second = FlatImage.builder(SECTOR)
                        .append(SECTOR, new Bytes("x", filled(1)), 0)
                        .build()) {
            VmdkDescriptorWriter.write(first, out, true);
            String one = Files.readString(out);
            VmdkDescriptorWriter.write(first, out, true);
            assertThat(Files.readString(out)).isEqualTo(one);
            VmdkDescriptorWriter.write(second, out, true);
            assertThat(Files.readString(out)).isNotEqualTo(one);
        }
    }

    private static byte[] filled(int value) {
        byte[] bytes = new byte[SECTOR];
        Arrays.fill(bytes, (byte) value);
        return bytes;
    }

    @ParameterizedTest
    @ValueSource(strings = {"quote\"", "line\nRW 1 ZERO", "carriage\rreturn"})
    void aNameThatWouldEndItsLineIsRefusedAndNothingIsLeft(String name) throws IOException {
        try (Blob blob = blob(name, 4096);
                FlatImage image = FlatImage.builder(SECTOR)
                        .append(4096, new Bytes("b", new byte[4096]), 0)
                        .append(4096, blob, 0)
                        .build()) {
            assertThatThrownBy(() -> VmdkDescriptorWriter.write(image, out, true))
                    .isInstanceOf(ImageException.class)
                    .hasMessageContaining("quote or line break");
        }
        assertOnlyFile(name);
    }

    @Test
    void aNameOfMoreThanTheFormatsBytesIsRefused() throws IOException {
        String part = "ü".repeat(100);
        Path deep = Files.createDirectories(folder.resolve(part).resolve(part).resolve(part));
        Path file = Files.write(deep.resolve("x"), new byte[SECTOR]);
        try (FlatImage image =
                FlatImage.builder(SECTOR).append(SECTOR, Blob.open(file), 0).build()) {
            assertThatThrownBy(() -> VmdkDescriptorWriter.write(image, out, true))
                    .isInstanceOf(ImageException.class)
                    .hasMessageContaining("at most 511 bytes");
        }
    }

    @Test
    void aDescriptorThatQemuWouldCutOffIsRefusedAndNothingIsLeft() throws IOException {
        try (Blob blob = blob("a", 1 << 20)) {
            FlatImage.Builder b = FlatImage.builder(SECTOR);
            for (int i = 0; i < 40000; i++) {
                b.append(SECTOR, blob, (i * 7L % 2000) * SECTOR);
            }
            FlatImage image = b.build();
            assertThatThrownBy(() -> VmdkDescriptorWriter.write(image, out, true))
                    .isInstanceOf(ImageException.class)
                    .hasMessageContaining("at most 1048575");
        }
        assertOnlyFile("a");
    }

    private void assertOnlyFile(String name) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            assertThat(files.map(file -> file.getFileName().toString())).containsExactly(name);
        }
    }

    @Test
    void aNameOfItsOwnFilesIsRefusedToo() throws IOException {
        Path quoted = folder.resolve("q\"uote.vmdk");
        try (FlatImage image = FlatImage.builder(SECTOR).zeros(SECTOR).build()) {
            assertThatThrownBy(() -> VmdkDescriptorWriter.write(image, quoted, false))
                    .isInstanceOf(ImageException.class)
                    .hasMessageContaining("quote or line break");
        }
        assertThat(folder).isEmptyDirectory();
    }

    @Test
    void noFileIsReplacedUnlessThatIsWantedAndNoneOfTheImageEver() throws IOException {
        Path zeros = Files.writeString(folder.resolve("out-zeros.raw"), "precious");
        try (FlatImage image = FlatImage.builder(SECTOR).zeros(SECTOR).build()) {
            assertThatThrownBy(() -> VmdkDescriptorWriter.write(image, out, false))
                    .isInstanceOf(FileAlreadyExistsException.class)
                    .hasMessageContaining("out-zeros.raw");
            assertThat(zeros).hasContent("precious");
        }
        assertOnlyFile("out-zeros.raw");
        Files.write(zeros, new byte[SECTOR]);
        FlatImage.Builder b = FlatImage.builder(SECTOR).zeros(SECTOR).append(SECTOR, Blob.open(zeros), 0);
        try (FlatImage image = b.build()) {
            assertThatThrownBy(() -> VmdkDescriptorWriter.write(image, out, true))
                    .isInstanceOf(FileSystemException.class)
                    .hasMessageContaining("it is a part of the image");
        }
        assertOnlyFile("out-zeros.raw");
    }

    @Test
    void aBlobThatChangedIsRefused() throws IOException {
        try (Blob blob = blob("a", 4096);
                FlatImage image =
                        FlatImage.builder(SECTOR).append(4096, blob, 0).build()) {
            Files.write(folder.resolve("a"), new byte[8192]);
            assertThatThrownBy(() -> VmdkDescriptorWriter.write(image, out, false))
                    .isInstanceOf(ImageException.class)
                    .hasMessageContaining("as when it was opened and checked");
        }
        assertOnlyFile("a");
    }

    @Test
    void theContentIdIsEightDigitsAndNeverThatOfNoParent() throws IOException {
        assertThat(VmdkDescriptorWriter.text("twoGbMaxExtentFlat", -1, "", SECTOR))
                .contains("\nCID=00000000\n");
        try (FlatImage image = randomImage()) {
            VmdkDescriptorWriter.write(image, out, false);
        }
        assertThat(Files.readString(out)).containsPattern("\nCID=[0-9a-f]{8}\nparentCID=ffffffff\n");
    }

    @Test
    void aBlobThatWasReplacedUnderItsNameIsRefused() throws IOException {
        try (Blob blob = blob("a", 4096);
                FlatImage image =
                        FlatImage.builder(SECTOR).append(4096, blob, 0).build()) {
            Files.move(folder.resolve("a"), folder.resolve("old"));
            Files.write(folder.resolve("a"), new byte[4096]);
            assertThatThrownBy(() -> VmdkDescriptorWriter.write(image, out, true))
                    .isInstanceOf(ImageException.class)
                    .hasMessageContaining("the file that is open");
        }
    }

    @Test
    void bytesThatHaveToBeDecodedAreRefused() throws IOException {
        SparseBuilder b = new SparseBuilder(1000, 8, "d").fill(random, 50);
        b.compressed = true;
        b.redundant = false;
        Path disk = Files.write(folder.resolve("d.vmdk"), b.build());
        try (VmdkImage image = Content.open(disk, Confinement.OWN_FOLDER)) {
            assertThatThrownBy(() -> VmdkDescriptorWriter.write(image.flat(), out, true))
                    .isInstanceOf(ImageException.class)
                    .hasMessageContaining("export --raw");
            VmdkStreamWriter.write(image.flat(), out, true, 6, done -> {});
        }
        Content.assertSame("stream of a stream", Content.bytes(out), b.expected());
    }

    @Test
    void aStreamOfAnyImageIsReadRight() throws IOException {
        for (int round = 0; round < 5; round++) {
            try (FlatImage image = randomImage()) {
                VmdkStreamWriter.write(image, out, true, 1 + random.nextInt(9), done -> {});
                Content.assertSame("round " + round + ", seed " + seed, Content.bytes(out), Content.bytes(image));
            }
        }
    }

    @Test
    void aStreamOfNothingButZerosIsReadRight() throws IOException {
        try (FlatImage image = FlatImage.builder(SECTOR).zeros(100 << 20).build()) {
            VmdkStreamWriter.write(image, out, true, 6, done -> {});
        }
        assertThat(out).hasSize(128 * SECTOR + 5 * SECTOR);
        assertThat(Content.bytes(out)).isEqualTo(new byte[100 << 20]);
        assertQemuReads(out, new byte[100 << 20]);
    }

    @Test
    void aStreamOfAnyImageIsReadRightByQemu() throws IOException {
        for (int round = 0; round < 3; round++) {
            try (FlatImage image = randomImage()) {
                VmdkStreamWriter.write(image, out, true, 6, done -> {});
                assertQemuReads(out, Content.bytes(image));
                String check = new Tool("qemu-img").run(folder, "check", "-f", "vmdk", out);
                assertThat(check).contains("No errors were found");
            }
        }
    }

    @Test
    void aStreamIsReadRightBySevenZip() throws IOException {
        try (FlatImage image = randomImage()) {
            VmdkStreamWriter.write(image, out, true, 6, done -> {});
            Tool sevenZip = new Tool("7zz");
            sevenZip.run(folder, "e", "-y", "-tVMDK", "-oout", out);
            try (Stream<Path> files = Files.list(folder.resolve("out"))) {
                Path only = files.findFirst().orElseThrow();
                Content.assertSame("7zz, seed " + seed, Files.readAllBytes(only), Content.bytes(image));
            }
        }
    }
}

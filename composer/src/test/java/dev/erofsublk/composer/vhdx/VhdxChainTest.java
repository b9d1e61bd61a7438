// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import static dev.erofsublk.composer.vhdx.VhdxBuilder.DATA_WRITE_GUID;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.FULL;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.MIB;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.PARTIAL;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.ZERO;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Chain;
import dev.erofsublk.composer.disk.Contents;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.BitSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Differencing images: which of child and parent each sector comes from, and which file is the parent. */
class VhdxChainTest {
    private static final UUID CHILD_GUID = UUID.fromString("99998888-7777-6666-5555-444433332222");

    @TempDir
    private Path folder;

    private final Random random = new Random(11);
    private final byte[] base = bytes(4 * MIB);

    private void writeParent(String name, UUID guid) throws IOException {
        VhdxBuilder parent = new VhdxBuilder(base.length, MIB, 512, guid);
        for (int i = 0; i < 4; i++) {
            parent.block(i, FULL, Arrays.copyOfRange(base, i * MIB, (i + 1) * MIB));
        }
        Files.createDirectories(folder.resolve(name).getParent());
        parent.write(folder.resolve(name));
    }

    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 5})
    void zeroUndefinedAndUnmappedBlocksOfAChildAreZerosAndNotTheParents(long state) throws IOException {
        writeParent("parent.vhdx", DATA_WRITE_GUID);
        Path child = new VhdxBuilder(base.length, MIB, 512)
                .childOf("parent.vhdx", DATA_WRITE_GUID)
                .state(1, state)
                .write(folder.resolve("child.avhdx"));

        Arrays.fill(base, MIB, 2 * MIB, (byte) 0);
        assertContent(child, base);
    }

    @ParameterizedTest
    @CsvSource({"512, 1048576, 4", "4096, 1048576, 4", "512, 2097152, 3", "4096, 268435456, 1"})
    void aPartialBlockTakesEachSectorFromWhereItsBitSays(int sector, int blockSize, int blocks) throws IOException {
        int size = blockSize > 4 * MIB ? 8 * MIB : blocks * blockSize - 16384;
        byte[] parentContent = bytes(size);
        VhdxBuilder parent = new VhdxBuilder(size, MIB, sector);
        for (int i = 0; i * MIB < size; i++) {
            parent.block(
                    i,
                    FULL,
                    Arrays.copyOf(Arrays.copyOfRange(parentContent, i * MIB, Math.min(size, (i + 1) * MIB)), MIB));
        }
        parent.write(folder.resolve("parent.vhdx"));
        VhdxBuilder builder =
                new VhdxBuilder(size, blockSize, sector, CHILD_GUID).childOf("parent.vhdx", DATA_WRITE_GUID);
        BitSet here = new BitSet();
        for (int i = 0; i < size / sector; i++) {
            here.set(i, random.nextInt(3) == 0);
        }
        byte[] own = bytes(size);
        for (int i = 0; i < blocks; i++) {
            builder.block(i, PARTIAL, Arrays.copyOfRange(own, i * blockSize, Math.min(size, (i + 1) * blockSize)));
        }
        Path child = builder.bitmap(0, here).write(folder.resolve("child.avhdx"));

        byte[] expected = parentContent.clone();
        here.stream().forEach(i -> System.arraycopy(own, i * sector, expected, i * sector, sector));
        assertContent(child, expected);
        assertSevenZipAgrees(child, expected);
    }

    @Test
    void eachChunkHasItsOwnBitmap() throws IOException {
        // 256 MiB blocks, 512-byte sectors: a chunk is 16 blocks, 4 GiB. Everything but two sectors is a hole.
        long size = 17L * 256 * MIB;
        new VhdxBuilder(size, 256 * MIB, 512).write(folder.resolve("parent.vhdx"));
        byte[] block = new byte[1024];
        random.nextBytes(block);
        BitSet second = new BitSet();
        second.set(1);
        Path child = new VhdxBuilder(size, 256 * MIB, 512, CHILD_GUID)
                .childOf("parent.vhdx", DATA_WRITE_GUID)
                .bitmap(0, new BitSet())
                .block(16, PARTIAL, block)
                .bitmap(1, second)
                .write(folder.resolve("child.avhdx"));

        try (VhdxImage image = VhdxImage.open(child, Confinement.OWN_FOLDER)) {
            long start = 16L * 256 * MIB;
            assertThat(image.flat().extentCount()).isEqualTo(3);
            assertThat(image.flat().extent(1).start()).isEqualTo(start + 512);
            assertThat(image.flat().extent(1).length()).isEqualTo(512);
        }
    }

    @Test
    void grandparentsAreReached() throws IOException {
        writeParent("parent.vhdx", DATA_WRITE_GUID);
        byte[] own = bytes(MIB);
        new VhdxBuilder(base.length, 2 * MIB, 512, CHILD_GUID)
                .childOf("parent.vhdx", DATA_WRITE_GUID)
                .state(1, ZERO)
                .write(folder.resolve("middle.avhdx"));
        Path child = new VhdxBuilder(base.length, MIB, 512, new UUID(5, 6))
                .childOf("middle.avhdx", CHILD_GUID)
                .block(3, FULL, own)
                .write(folder.resolve("child.avhdx"));

        Arrays.fill(base, 2 * MIB, 4 * MIB, (byte) 0);
        System.arraycopy(own, 0, base, 3 * MIB, MIB);
        assertContent(child, base);
    }

    @Test
    void aChildLargerThanItsParentEndsInZeros() throws IOException {
        writeParent("parent.vhdx", DATA_WRITE_GUID);
        Path child = new VhdxBuilder(6L * MIB, 2 * MIB, 512, CHILD_GUID)
                .childOf("parent.vhdx", DATA_WRITE_GUID)
                .write(folder.resolve("child.avhdx"));

        assertContent(child, Arrays.copyOf(base, 6 * MIB));
    }

    @Test
    void aParentWithAnotherDataWriteGuidIsRefused() throws IOException {
        writeParent("parent.vhdx", UUID.randomUUID());
        Path child = new VhdxBuilder(base.length, MIB, 512)
                .childOf("parent.vhdx", DATA_WRITE_GUID)
                .write(folder.resolve("child.avhdx"));

        assertRefused(child, "header.DataWriteGuid", "the parent linkage of the child");
    }

    @Test
    void theSecondLinkageIsAnAlternative() throws IOException {
        writeParent("parent.vhdx", DATA_WRITE_GUID);
        Path child = new VhdxBuilder(base.length, MIB, 512)
                .child(Map.of(
                        "parent_linkage", "{" + CHILD_GUID + "}",
                        "parent_linkage2", "{" + DATA_WRITE_GUID + "}",
                        "relative_path", "parent.vhdx"))
                .write(folder.resolve("child.avhdx"));

        assertContent(child, base);
    }

    @Test
    void pathsAreTriedInTheOrderOfTheSpecification() throws IOException {
        writeParent("sub/first.vhdx", DATA_WRITE_GUID);
        Map<String, String> locator = new LinkedHashMap<>();
        locator.put("absolute_win32_path", "\\\\?\\C:\\vm\\third.vhdx");
        locator.put("volume_path", "\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\vm\\second.vhdx");
        locator.put("relative_path", ".\\sub\\first.vhdx");
        locator.put("parent_linkage", "{" + DATA_WRITE_GUID.toString().toUpperCase(Locale.ROOT) + "}");
        Path child = new VhdxBuilder(base.length, MIB, 512).child(locator).write(folder.resolve("child.avhdx"));

        assertContent(child, base); // the relative one
        Files.delete(folder.resolve("sub/first.vhdx"));
        writeParent("third.vhdx", DATA_WRITE_GUID);
        assertContent(child, base); // the last
        writeParent("second.vhdx", UUID.randomUUID());
        assertRefused(child, "second.vhdx", "DataWriteGuid"); // comes before the last, and is another disk
    }

    @Test
    void aMissingParentIsNamed() throws IOException {
        Path child = new VhdxBuilder(base.length, MIB, 512)
                .childOf("nowhere.vhdx", DATA_WRITE_GUID)
                .write(folder.resolve("child.avhdx"));

        assertRefused(child, "nowhere.vhdx", "a file that exists");
    }

    @Test
    void aParentOutsideTheFolderIsNotOpened() throws IOException {
        writeParent("parent.vhdx", DATA_WRITE_GUID);
        Path inner = Files.createDirectories(folder.resolve("inner"));
        Path child = new VhdxBuilder(base.length, MIB, 512)
                .child(Map.of("parent_linkage", "{" + DATA_WRITE_GUID + "}", "relative_path", "..\\parent.vhdx"))
                .write(inner.resolve("child.avhdx"));

        assertRefused(child, "..", "a file below");
        Confinement wider = new Confinement(List.of(folder));
        try (VhdxImage image = VhdxImage.open(child, wider)) {
            assertThat(Contents.of(image.flat())).isEqualTo(base);
        }
    }

    @Test
    void anImageThatIsItsOwnParentIsRefused() throws IOException {
        Path child = new VhdxBuilder(base.length, MIB, 512)
                .childOf("child.avhdx", DATA_WRITE_GUID)
                .write(folder.resolve("child.avhdx"));

        assertRefused(child, "parent chain", "each file once");
    }

    @Test
    void aChainThatDoesNotEndIsRefused() throws IOException {
        for (int i = 0; i <= Chain.MAX_LENGTH; i++) {
            VhdxBuilder link = new VhdxBuilder(MIB, MIB, 512).childOf((i + 1) + ".avhdx", DATA_WRITE_GUID);
            link.write(folder.resolve(i + ".avhdx"));
        }

        assertRefused(folder.resolve("0.avhdx"), "parent chain", "at most 256 files");
    }

    @Test
    void aParentWithOtherSectorsIsRefused() throws IOException {
        new VhdxBuilder(4L * MIB, MIB, 4096).write(folder.resolve("parent.vhdx"));
        Path child = new VhdxBuilder(4L * MIB, MIB, 512)
                .childOf("parent.vhdx", DATA_WRITE_GUID)
                .write(folder.resolve("child.avhdx"));

        assertRefused(child, "logical sector size is 4096", "that of the child");
    }

    @Test
    void damagedLocatorsAreRefusedByName() throws IOException {
        writeParent("parent.vhdx", DATA_WRITE_GUID);
        String linkage = "{" + DATA_WRITE_GUID + "}";
        Map<Map<String, String>, String> locators = Map.of(
                Map.of("relative_path", "parent.vhdx"), "parent_linkage among them",
                Map.of("parent_linkage", linkage), "relative_path",
                Map.of("parent_linkage", DATA_WRITE_GUID.toString(), "relative_path", "parent.vhdx"),
                        "a GUID in braces",
                Map.of("parent_linkage", linkage, "relative_path", "par\0ent.vhdx"), "NUL",
                Map.of("parent_linkage", linkage, "relative_path", "file:///etc/passwd"), "file reference",
                Map.of("parent_linkage", linkage, "relative_path", "/etc/passwd"), "file reference");
        for (var locator : locators.entrySet()) {
            Path child = new VhdxBuilder(base.length, MIB, 512)
                    .child(locator.getKey())
                    .write(folder.resolve("child.avhdx"));
            assertRefused(child, locator.getValue());
        }
    }

    @Test
    void aPartialBlockWithoutBitmapIsRefused() throws IOException {
        writeParent("parent.vhdx", DATA_WRITE_GUID);
        Path child = new VhdxBuilder(base.length, MIB, 512)
                .childOf("parent.vhdx", DATA_WRITE_GUID)
                .block(0, PARTIAL, new byte[MIB])
                .write(folder.resolve("child.avhdx"));

        assertRefused(child, "BAT entry 0.state is 7", "no sector bitmap");
    }

    private static void assertContent(Path file, byte[] expected) throws IOException {
        try (VhdxImage image = VhdxImage.open(file, Confinement.OWN_FOLDER)) {
            assertThat(image.flat().size()).isEqualTo(expected.length);
            assertThat(Arrays.mismatch(Contents.of(image.flat()), expected))
                    .as("first wrong byte")
                    .isEqualTo(-1);
        }
    }

    private static void assertRefused(Path file, String... messages) {
        ThrowingCallable opening =
                () -> VhdxImage.open(file, Confinement.OWN_FOLDER).close();
        assertThatThrownBy(opening).isInstanceOf(ImageException.class).message().contains(messages);
    }

    /** A second reader of the same files, where the machine has it. */
    private static void assertSevenZipAgrees(Path file, byte[] expected) throws IOException {
        Process process;
        try {
            process = new ProcessBuilder("7zz", "e", "-so", "-tVHDX", file.toString())
                    .redirectError(ProcessBuilder.Redirect.DISCARD)
                    .start();
        } catch (IOException e) {
            Assumptions.abort("not run to its end: there is no 7zz to compare with");
            return;
        }
        byte[] theirs = process.getInputStream().readAllBytes();
        try {
            assertThat(process.waitFor(60, TimeUnit.SECONDS)).isTrue();
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
        assertThat(process.exitValue()).as("7zz's exit code").isZero();
        assertThat(Arrays.mismatch(theirs, expected)).as("7zz").isEqualTo(-1);
    }

    private byte[] bytes(int length) {
        byte[] bytes = new byte[length];
        random.nextBytes(bytes);
        return bytes;
    }
}

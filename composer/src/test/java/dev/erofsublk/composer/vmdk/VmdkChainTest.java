// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Disks over disks, and the extents of ESX that are mostly found there. */
class VmdkChainTest {
    private static final int SECTOR = 512;

    @TempDir
    Path folder;

    private final long seed = System.nanoTime();
    private final Random random = new Random(seed);

    @BeforeEach
    void printSeed() {
        System.out.println("VmdkChainTest seed " + seed);
    }

    private Path text(String name, String type, String extents, String cid, String parent) throws IOException {
        return Files.writeString(folder.resolve(name), SparseBuilder.descriptor(type, extents, cid, parent));
    }

    private static String parent(String cid, String hint) {
        return "parentCID=" + cid + "\nparentFileNameHint=\"" + hint + "\"";
    }

    private byte[] base(int sectors) throws IOException {
        byte[] content = new byte[sectors * SECTOR];
        random.nextBytes(content);
        Files.write(folder.resolve("base-flat"), content);
        text("base.vmdk", "vmfs", "RW " + sectors + " VMFS \"base-flat\"", "00000001", "");
        return content;
    }

    private SparseBuilder child(int capacity, String cid, String parent) {
        SparseBuilder b = new SparseBuilder(capacity, 8 << random.nextInt(4), "c").fill(random, 30);
        b.descriptor = SparseBuilder.descriptor("monolithicSparse", "RW " + capacity + " SPARSE \"c\"", cid, parent);
        return b;
    }

    private void refused(Path disk, String reason) {
        assertThatThrownBy(() -> Content.bytes(disk))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining(reason);
    }

    @Test
    void aRandomChainIsReadRight() throws IOException {
        for (int round = 0; round < 10; round++) {
            int capacity = 500 + random.nextInt(8000);
            byte[] expected = base(capacity);
            String below = "base.vmdk";
            for (int level = 2; level < 6; level++) {
                SparseBuilder b = child(capacity, "%08x".formatted(level), parent("%08x".formatted(level - 1), below));
                for (int z = 0; z < 5; z++) {
                    int grain = random.nextInt(b.grains());
                    b.stored.remove(grain);
                    b.zeroed.add(grain);
                }
                b.compressed = level == 4;
                b.redundant = level != 4;
                below = "level" + level + ".vmdk";
                Files.write(folder.resolve(below), b.build());
                expected = b.expected(expected);
            }
            Content.assertSame(
                    String.format("round %d of seed %d", round, seed), Content.bytes(folder.resolve(below)), expected);
        }
    }

    @Test
    void aChildLargerThanItsParentReadsZerosBehindIt() throws IOException {
        byte[] base = base(1000);
        SparseBuilder b = child(3000, "2", parent("1", "base.vmdk"));
        Files.write(folder.resolve("c.vmdk"), b.build());
        Content.assertSame("disk", Content.bytes(folder.resolve("c.vmdk")), b.expected(base));
    }

    @Test
    void aChildSmallerThanItsParentSeesItsStart() throws IOException {
        byte[] base = base(3000);
        SparseBuilder b = child(1000, "2", parent("1", "base.vmdk"));
        Files.write(folder.resolve("c.vmdk"), b.build());
        Content.assertSame("disk", Content.bytes(folder.resolve("c.vmdk")), b.expected(base));
    }

    @Test
    void aSplitChildFindsItsPlaceInTheParent() throws IOException {
        byte[] expected = base(3000);
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < 3; i++) {
            SparseBuilder b = new SparseBuilder(1000, 16, "").fill(random, 50);
            b.descriptor = "";
            Files.write(folder.resolve("s" + i), b.build());
            byte[] part = b.expected(Arrays.copyOfRange(expected, i * 1000 * SECTOR, (i + 1) * 1000 * SECTOR));
            System.arraycopy(part, 0, expected, i * 1000 * SECTOR, part.length);
            lines.append("RW 1000 SPARSE \"s").append(i).append("\"\n");
        }
        Path disk = text("c.vmdk", "twoGbMaxExtentSparse", lines.toString(), "2", parent("1", "base.vmdk"));
        Content.assertSame("disk", Content.bytes(disk), expected);
    }

    @Test
    void aParentThatChangedIsRefusedWhenTheDiskIsOpened() throws IOException {
        base(1000);
        Files.write(
                folder.resolve("c.vmdk"),
                child(1000, "2", parent("3", "base.vmdk")).build());
        refused(folder.resolve("c.vmdk"), "parentCID is 00000003, expected 00000001, the CID of");
    }

    @Test
    void aHintWithoutAParentsCidIsRefused() throws IOException {
        base(1000);
        Files.write(
                folder.resolve("c.vmdk"),
                child(1000, "2", parent("ffffffff", "base.vmdk")).build());
        refused(folder.resolve("c.vmdk"), "since there is a parentFileNameHint");
    }

    @Test
    void aMissingParentIsRefused() throws IOException {
        Files.write(
                folder.resolve("c.vmdk"),
                child(1000, "2", parent("1", "gone.vmdk")).build());
        refused(folder.resolve("c.vmdk"), "file reference is \"gone.vmdk\", expected a file that exists");
    }

    @Test
    void aParentOfAnotherFormatIsRefused() throws IOException {
        Files.write(folder.resolve("raw"), new byte[4096]);
        Files.write(
                folder.resolve("c.vmdk"), child(1000, "2", parent("1", "raw")).build());
        refused(folder.resolve("c.vmdk"), "raw: createType is missing, expected a VMDK");
    }

    @Test
    void aChainThatIsACircleIsRefused() throws IOException {
        Files.write(
                folder.resolve("a.vmdk"),
                child(1000, "1", parent("1", "b.vmdk")).build());
        Files.write(
                folder.resolve("b.vmdk"),
                child(1000, "1", parent("1", "a.vmdk")).build());
        refused(folder.resolve("a.vmdk"), "an image that is not itself a child of this one");
        Files.write(
                folder.resolve("own.vmdk"),
                child(1000, "1", parent("1", "own.vmdk")).build());
        refused(folder.resolve("own.vmdk"), "an image that is not itself a child of this one");
    }

    @Test
    void aChainOfMoreLinksThanAllowedIsRefused() throws IOException {
        byte[] base = base(8);
        String below = "base.vmdk";
        for (int i = 0; i < 300; i++) {
            SparseBuilder b = new SparseBuilder(8, 8, "c");
            b.descriptor = SparseBuilder.descriptor("monolithicSparse", "RW 8 SPARSE \"c\"", "1", parent("1", below));
            below = "c" + i;
            Files.write(folder.resolve(below), b.build());
        }
        Content.assertSame("disk", Content.bytes(folder.resolve("c200")), base);
        refused(folder.resolve("c299"), "no more than 256 and no circle");
    }

    @Test
    void randomCowdExtentsOverAParentAreReadRight() throws IOException {
        for (int round = 0; round < 10; round++) {
            int capacity = 5000 + random.nextInt(9000);
            int grain = 1 << random.nextInt(4);
            byte[] expected = base(capacity);
            Map<Integer, byte[]> grains = grains((capacity + grain - 1) / grain, grain * SECTOR, 0);
            Files.write(folder.resolve("delta"), EsxBuilder.cowd(capacity, grain, grains));
            Path disk = text(
                    "c.vmdk", "vmfsSparse", "RW " + capacity + " VMFSSPARSE \"delta\"", "2", parent("1", "base.vmdk"));
            grains.forEach((i, data) -> copy(data, expected, i * grain * SECTOR));
            Content.assertSame(String.format("round %d of seed %d", round, seed), Content.bytes(disk), expected);
        }
    }

    @Test
    void randomSeSparseExtentsOverAParentAreReadRight() throws IOException {
        for (int round = 0; round < 5; round++) {
            int capacity = 40000 + random.nextInt(40000);
            byte[] expected = base(capacity);
            Map<Integer, byte[]> grains = grains((capacity + 7) / 8, 4096, 20);
            Files.write(folder.resolve("delta"), EsxBuilder.seSparse(capacity, grains));
            Path disk =
                    text("c.vmdk", "seSparse", "RW " + capacity + " SESPARSE \"delta\"", "2", parent("1", "base.vmdk"));
            grains.forEach((i, data) -> copy(data.length == 1 ? new byte[4096] : data, expected, i * 4096));
            Content.assertSame(String.format("round %d of seed %d", round, seed), Content.bytes(disk), expected);
        }
    }

    /** Random ones of {@code count} grains, in random order, some of them without data. */
    private Map<Integer, byte[]> grains(int count, int bytes, int barePercent) {
        Map<Integer, byte[]> grains = new LinkedHashMap<>();
        for (int i = 0; i < count / 3; i++) {
            byte[] data = new byte[bytes];
            random.nextBytes(data);
            boolean bare = random.nextInt(100) < barePercent;
            grains.put(
                    random.nextInt(count), bare ? random.nextBoolean() ? EsxBuilder.ZERO : EsxBuilder.UNMAPPED : data);
        }
        return grains;
    }

    private static void copy(byte[] data, byte[] disk, int at) {
        System.arraycopy(data, 0, disk, at, Math.min(data.length, disk.length - at));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "0 | 0xcafebabf | magic is 0xcafebabf",
                "8 | 0x200000002 | version is 0x200000002",
                "24 | 16 | grainSize is 0x10",
                "32 | 128 | grainTableSize is 0x80",
                "40 | 1 | flags is 0x1",
                "72 | 1 | reserved 3 is 0x1",
                "504 | 1 | padding is 0x1",
                "512 | 0 | volatile header magic is 0x0",
                "536 | 1 | replayJournal is 0x1",
                "1016 | 1 | volatile header padding is 0x1",
                "4096 | 0x2000000000000000 | grain directory entry 0 is 0x2000000000000000",
                "4096 | 0x1000000000000063 | grain directory entry 0 is 0x1000000000000063",
                "8192 | 0x0000000000000005 | grain table 0 entry 0 is 0x5",
                "8192 | 0x4000000000000000 | grain table 0 entry 0 is 0x4000000000000000",
                "8192 | 0x3000000000000005 | grain table 0 entry 0 is 0x3000000000000005"
            })
    void whatQemuRefusesOfASeSparseExtentIsRefused(int at, String value, String reason) throws IOException {
        byte[] file = EsxBuilder.seSparse(100, Map.of(0, new byte[4096]));
        ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN).putLong(at, Long.decode(value));
        Files.write(folder.resolve("delta"), file);
        refused(text("c.vmdk", "seSparse", "RW 100 SESPARSE \"delta\"", "2", ""), reason);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "4 | 2 | version is 2",
                "8 | 1 | flags is 0x1",
                "12 | 99 | capacity is 99, expected 100",
                "16 | 3 | grainSize is 3",
                "24 | 2 | numGDEntries is 2",
                "1648 | 1 | dirty is 1",
                "2048 | 2 | grain directory entry 0 is sector 2",
                "2560 | 9999 | entry 0 is sector 9999"
            })
    void aDamagedCowdExtentIsRefused(int at, int value, String reason) throws IOException {
        byte[] file = EsxBuilder.cowd(100, 1, Map.of(0, new byte[512], 7, new byte[512]));
        ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN).putInt(at, value);
        Files.write(folder.resolve("delta"), file);
        refused(text("c.vmdk", "vmfsSparse", "RW 100 VMFSSPARSE \"delta\"", "2", ""), reason);
    }

    @Test
    void aChainClosesAllItsFiles() throws IOException {
        base(1000);
        Files.write(
                folder.resolve("c.vmdk"),
                child(1000, "2", parent("1", "base.vmdk")).build());
        int before = openFiles();
        VmdkImage image = Content.open(folder.resolve("c.vmdk"), Confinement.OWN_FOLDER);
        assertThat(openFiles()).isEqualTo(before + 2);
        image.close();
        image.close();
        assertThat(openFiles()).isEqualTo(before);
    }

    private static int openFiles() {
        String[] fds = new java.io.File("/proc/self/fd").list();
        return fds == null ? -1 : fds.length;
    }
}

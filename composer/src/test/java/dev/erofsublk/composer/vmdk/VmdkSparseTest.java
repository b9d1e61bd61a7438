// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.Decoded;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.cache.CacheDirectory;
import dev.erofsublk.composer.cache.CachedSource;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileTime;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Extents in grains, made by {@link SparseBuilder}; every random test prints its seed. */
class VmdkSparseTest {
    private static final int SECTOR = 512;

    @TempDir
    Path folder;

    private final long seed = System.nanoTime();
    private final Random random = new Random(seed);
    private Path disk;

    @BeforeEach
    void printSeed() {
        System.out.println("VmdkSparseTest seed " + seed);
        disk = folder.resolve("d.vmdk");
    }

    private SparseBuilder builder(long capacity, int grain) {
        return new SparseBuilder(capacity, grain, "d.vmdk").fill(random, 40);
    }

    private void write(byte[] file) throws IOException {
        Files.write(disk, file);
    }

    private void refused(byte[] file, String reason) throws IOException {
        write(file);
        assertThatThrownBy(() -> Content.bytes(disk))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining(reason);
    }

    private static ByteBuffer little(byte[] file) {
        return ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN);
    }

    @Test
    void randomGrainsOfRandomDisksAreReadRight() throws IOException {
        for (int i = 0; i < 40; i++) {
            SparseBuilder b = new SparseBuilder(1 + random.nextInt(20000), 8 << random.nextInt(5), "any.vmdk");
            b.fill(random, random.nextInt(101));
            b.redundant = random.nextBoolean();
            for (int z = random.nextInt(20); z > 0; z--) {
                int grain = random.nextInt(b.grains());
                b.stored.remove(grain);
                b.zeroed.add(grain);
            }
            write(b.build());
            Content.assertSame(String.format("disk %d of seed %d", i, seed), Content.bytes(disk), b.expected());
        }
    }

    @Test
    void randomStreamsAreReadRight() throws IOException {
        for (int i = 0; i < 30; i++) {
            SparseBuilder b = new SparseBuilder(1 + random.nextInt(20000), 8 << random.nextInt(5), "any.vmdk");
            b.fill(random, random.nextInt(101));
            b.compressed = true;
            b.version = 3;
            b.redundant = false;
            b.footer = random.nextBoolean();
            b.markers = b.footer || random.nextBoolean();
            b.padShortGrain = random.nextBoolean();
            b.level = random.nextInt(10);
            for (int z = random.nextInt(20); z > 0; z--) {
                int grain = random.nextInt(b.grains());
                b.stored.remove(grain);
                b.zeroed.add(grain);
            }
            write(b.build());
            Content.assertSame(String.format("stream %d of seed %d", i, seed), Content.bytes(disk), b.expected());
        }
    }

    @Test
    void aGrainThatCompressesToMoreThanAGrainIsRead() throws IOException {
        SparseBuilder b = new SparseBuilder(256, 128, "d.vmdk");
        byte[] noise = new byte[65536];
        random.nextBytes(noise);
        b.stored.put(1, noise);
        b.compressed = true;
        b.redundant = false;
        b.level = 0;
        byte[] file = b.build();
        assertThat(little(file).getInt(b.grainAt(1) + 8)).isGreaterThan(65536);
        write(file);
        Content.assertSame("disk", Content.bytes(disk), b.expected());
    }

    @Test
    void aFooterIsFoundBeforePadding() throws IOException {
        SparseBuilder b = builder(2000, 16);
        b.compressed = true;
        b.redundant = false;
        b.footer = true;
        byte[] file = b.build();
        write(Arrays.copyOf(file, file.length + 5 * SECTOR + 7));
        Content.assertSame("disk", Content.bytes(disk), b.expected());
    }

    @Test
    void theDecodedSourceIsAsLargeAsWhatIsStored() throws IOException {
        SparseBuilder b = new SparseBuilder(1 << 22, 128, "d.vmdk"); // 2 GiB
        b.stored.put(7, new byte[65536]);
        b.stored.put(30000, new byte[65536]);
        b.compressed = true;
        b.redundant = false;
        write(b.build());
        try (VmdkImage image = Content.open(disk, Confinement.OWN_FOLDER)) {
            Decoded decoded = image.flat().sources().stream()
                    .filter(Decoded.class::isInstance)
                    .map(Decoded.class::cast)
                    .findFirst()
                    .orElseThrow();
            assertThat(decoded.size()).isEqualTo(2 * 65536);
            assertThat(decoded.present(0, 65536)).isFalse();
            decoded.ensure(65536, 1);
            assertThat(decoded.present(0, 65536)).isFalse();
            assertThat(decoded.present(65536, 65536)).isTrue();
            assertThat(image.flat().extentCount()).isEqualTo(5);
        }
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void aDamagedDirectoryIsReplacedByItsTwin(boolean first) throws IOException {
        SparseBuilder b = builder(20000, 16);
        byte[] file = b.build();
        little(file).putInt((int) (first ? b.gd : b.rgd) * SECTOR + 4, -1);
        write(file);
        Content.assertSame("disk", Content.bytes(disk), b.expected());
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void aDamagedTableIsReplacedByItsTwin(boolean first) throws IOException {
        SparseBuilder b = builder(20000, 16);
        byte[] file = b.build();
        int table = little(file).getInt((int) (first ? b.gd : b.rgd) * SECTOR + 4);
        little(file).putInt(table * SECTOR + 12, 0x7fffffff);
        write(file);
        Content.assertSame("disk", Content.bytes(disk), b.expected());
    }

    @Test
    void twoSoundDirectoriesThatDifferAreRefused() throws IOException {
        SparseBuilder b = builder(20000, 16);
        byte[] file = b.build();
        int stored = b.stored.firstKey();
        little(file).putInt(b.tableAt(stored / 512) + stored % 512 * 4, 0);
        refused(file, "not the same in both directories");
    }

    @Test
    void twoDamagedDirectoriesAreRefused() throws IOException {
        SparseBuilder b = builder(20000, 16);
        byte[] file = b.build();
        little(file).putInt((int) b.gd * SECTOR + 4, -1).putInt((int) b.rgd * SECTOR + 4, -1);
        refused(file, "grain directory entry 1 is sector 4294967295");
    }

    @Test
    void aTableSharedByTwoEntriesIsRefused() throws IOException {
        SparseBuilder b = builder(20000, 16);
        b.redundant = false;
        byte[] file = b.build();
        ByteBuffer bytes = little(file);
        bytes.putInt((int) b.gd * SECTOR + 4, bytes.getInt((int) b.gd * SECTOR));
        refused(file, "tables that overlap neither each other nor the directory");
    }

    @Test
    void entryOneMeansZerosOnlyWhereTheFlagSaysSo() throws IOException {
        SparseBuilder b = builder(2000, 16);
        b.zeroed.add(b.stored.pollFirstEntry().getKey());
        byte[] file = b.build();
        little(file).putInt(8, 3);
        refused(file, "is sector 1, expected a grain");
    }

    @Test
    void directoryEntryOneMeansATableOfZeros() throws IOException {
        SparseBuilder b = builder(20000, 16);
        b.zeroed.add(b.stored.pollLastEntry().getKey());
        byte[] file = b.build();
        little(file).putInt((int) b.gd * SECTOR, 1).putInt((int) b.rgd * SECTOR, 1);
        write(file);
        byte[] expected = b.expected();
        Arrays.fill(expected, 0, 512 * 16 * SECTOR, (byte) 0);
        Content.assertSame("disk", Content.bytes(disk), expected);
    }

    @Test
    void aGrainBehindTheEndOfTheFileIsRefusedAndNotReadAsZeros() throws IOException {
        SparseBuilder b = builder(20000, 16);
        byte[] file = b.build();
        refused(Arrays.copyOf(file, file.length - SECTOR), "and the file's end at");
    }

    @Test
    void aGrainInTheMetadataIsRefused() throws IOException {
        SparseBuilder b = builder(2000, 16);
        b.redundant = false;
        byte[] file = b.build();
        little(file).putInt(b.tableAt(0), 2);
        refused(file, "entry 0 is sector 2, expected a grain");
    }

    @Test
    void aFileShorterThanItsOverheadIsRefused() throws IOException {
        byte[] file = builder(2000, 128).build();
        refused(Arrays.copyOf(file, 100 * SECTOR), "overHead");
    }

    @ParameterizedTest
    @ValueSource(ints = {4, 0x7fffffff, -1, 0})
    void anUnknownVersionIsRefused(int version) throws IOException {
        byte[] file = builder(2000, 16).build();
        little(file).putInt(4, version);
        refused(file, "version is " + Integer.toUnsignedString(version) + ", expected 1, 2 or 3");
    }

    @Test
    void anUncleanShutdownIsRefused() throws IOException {
        byte[] file = builder(2000, 16).build();
        file[72] = 1;
        refused(file, "uncleanShutdown is 1");
    }

    @Test
    void aFileThatATextTransferChangedIsRefused() throws IOException {
        byte[] file = builder(2000, 16).build();
        file[75] = 0x0a;
        refused(file, "newline test");
    }

    @Test
    void anUnknownCompressionIsRefused() throws IOException {
        byte[] file = builder(2000, 16).build();
        little(file).putShort(77, (short) 2);
        refused(file, "compressAlgorithm is 2");
    }

    @Test
    void compressionThatFlagsAndAlgorithmDisagreeAboutIsRefused() throws IOException {
        byte[] file = builder(2000, 16).build();
        little(file).putInt(8, 3 | 1 << 16);
        refused(file, "compressAlgorithm is 0, expected 1, since the flags say compressed");
    }

    @ParameterizedTest
    @ValueSource(longs = {0, 1, 7, 9, 127, 129, 0x400000, -1})
    void aGrainSizeThatIsNoPowerOfTwoInBoundsIsRefused(long grain) throws IOException {
        byte[] file = builder(2000, 16).build();
        little(file).putLong(20, grain);
        refused(file, "grainSize is");
    }

    @Test
    void aCapacityOtherThanTheDescriptorsIsRefused() throws IOException {
        byte[] file = builder(2000, 16).build();
        little(file).putLong(12, 1999);
        refused(file, "capacity is 1999, expected 2000 as in line");
    }

    @Test
    void aGrainWithAnothersMarkerIsRefused() throws IOException {
        SparseBuilder b = builder(2000, 16);
        b.compressed = true;
        b.redundant = false;
        byte[] file = b.build();
        ByteBuffer bytes = little(file);
        int table = b.tableAt(0);
        int first = b.stored.firstKey();
        int last = b.stored.lastKey();
        bytes.putInt(table + first * 4, bytes.getInt(table + last * 4));
        refused(file, "marked as that of sector " + last * 16);
    }

    @Test
    void aDamagedCompressedGrainIsRefusedWhenItIsReadAndOthersAreRead() throws IOException {
        SparseBuilder b = new SparseBuilder(2000, 16, "d.vmdk").fill(random, 100);
        b.compressed = true;
        b.redundant = false;
        byte[] file = b.build();
        int at = b.grainAt(3);
        int size = little(file).getInt(at + 8);
        file[at + 12 + size - 1] ^= 1; // the Adler-32
        write(file);
        byte[] expected = b.expected();
        try (VmdkImage image = Content.open(disk, Confinement.OWN_FOLDER)) {
            Decoded decoded = (Decoded) image.flat().extent(0).source();
            assertThatThrownBy(() -> decoded.ensure(3 * 8192, 8192))
                    .isInstanceOf(ImageException.class)
                    .hasMessageContaining("compressed grain of sector 48 is damaged");
            assertThat(decoded.present(3 * 8192, 8192)).isFalse();
            try (var arena = Arena.ofConfined()) {
                var bytes = arena.allocate(8192);
                decoded.read(4 * 8192, bytes);
                assertThat(bytes.toArray(ValueLayout.JAVA_BYTE))
                        .isEqualTo(Arrays.copyOfRange(expected, 4 * 8192, 5 * 8192));
            }
        }
    }

    @Test
    void aTruncatedStreamIsRefused() throws IOException {
        SparseBuilder b = builder(4000, 16);
        b.compressed = true;
        b.redundant = false;
        b.footer = true;
        byte[] file = b.build();
        refused(Arrays.copyOf(file, file.length - 600), "footer is missing");
    }

    @Test
    void aFooterThatContradictsTheHeaderIsRefused() throws IOException {
        SparseBuilder b = builder(4000, 16);
        b.compressed = true;
        b.redundant = false;
        b.footer = true;
        byte[] file = b.build();
        little(file).putLong((int) b.footerSector * SECTOR + 12, 3999);
        refused(file, "footer is");
    }

    @Test
    void textBehindTheDescriptorsEndIsRefused() throws IOException {
        SparseBuilder b = builder(2000, 16);
        b.descriptor += "# padding\n".repeat(100);
        byte[] file = b.build();
        little(file).putLong(36, 1);
        refused(file, "descriptorSize is 1, expected a size that holds all of the text");
    }

    @Test
    void decodedGrainsAreFoundAgainByWhoOpensTheSameFileAndNotByWhoOpensAnother() throws IOException {
        SparseBuilder b = new SparseBuilder(1000, 8, "d.vmdk").fill(random, 50);
        b.compressed = true;
        b.redundant = false;
        Files.write(disk, b.build());
        CacheDirectory cache = CacheDirectory.at(folder.resolve("cache"));
        try (VmdkImage image = VmdkImage.open(disk, Confinement.OWN_FOLDER, cache)) {
            assertThat(decoded(image).presentCount()).isZero();
            assertThat(Content.bytes(image.flat())).isEqualTo(b.expected());
        }
        try (VmdkImage image = VmdkImage.open(disk, Confinement.OWN_FOLDER, cache)) {
            assertThat(decoded(image).presentCount())
                    .isEqualTo(decoded(image).pieces().count());
            assertThat(Content.bytes(image.flat())).isEqualTo(b.expected());
        }
        Files.setLastModifiedTime(disk, FileTime.fromMillis(1));
        try (VmdkImage image = VmdkImage.open(disk, Confinement.OWN_FOLDER, cache)) {
            assertThat(decoded(image).presentCount()).isZero();
        }
    }

    @Test
    void aDiskWithoutCompressedGrainsNeedsNoCache() throws IOException {
        SparseBuilder b = new SparseBuilder(1000, 8, "d.vmdk").fill(random, 50);
        Files.write(disk, b.build());
        Path cache = folder.resolve("cache");
        VmdkImage.open(disk, Confinement.OWN_FOLDER, CacheDirectory.at(cache)).close();
        assertThat(cache).doesNotExist();
    }

    private static CachedSource decoded(VmdkImage image) {
        return image.flat().sources().stream()
                .filter(CachedSource.class::isInstance)
                .map(CachedSource.class::cast)
                .findFirst()
                .orElseThrow();
    }

    @ParameterizedTest
    @CsvSource({"1, 1000, 1, 1000", "16, 1000000, 250, 10000"})
    void openingATerabyteIsQuick(int tebibytes, int grains, int perTable, int millis) throws IOException {
        writeHuge((long) tebibytes << 31, grains, perTable);
        ThreadMXBean clock = ManagementFactory.getThreadMXBean();
        long wall = System.nanoTime();
        long start = clock.getCurrentThreadCpuTime(); // the machine may be busy with other things
        try (VmdkImage image = Content.open(disk, Confinement.OWN_FOLDER)) {
            long took = (clock.getCurrentThreadCpuTime() - start) / 1_000_000;
            System.out.printf(
                    "%d TiB with %d grains opened in %d ms of processor time, %d ms in all%n",
                    tebibytes, grains, took, (System.nanoTime() - wall) / 1_000_000);
            assertThat(took).isLessThan(millis);
            assertThat(image.flat().size()).isEqualTo((long) tebibytes << 40);
            assertThat(image.flat().extentCount()).isEqualTo(2 * grains);
        }
    }

    /** As qemu-img makes it: all tables there, twice, most of them holes in the file. Grains are far apart. */
    private void writeHuge(long capacity, int grains, int perTable) throws IOException {
        int tables = (int) (capacity / 128 / 512);
        long directorySectors = tables * 4L / SECTOR;
        long rgd = 21;
        long gd = rgd + directorySectors + tables * 4L;
        long overHead = (gd + directorySectors + tables * 4L + 127) / 128 * 128;
        SparseBuilder b = new SparseBuilder(capacity, 128, "d.vmdk");
        try (FileChannel out = FileChannel.open(disk, StandardOpenOption.CREATE, StandardOpenOption.WRITE)) {
            out.write(ByteBuffer.wrap(b.descriptor.getBytes(StandardCharsets.US_ASCII)), SECTOR);
            byte[] header = new byte[SECTOR];
            b.header(little(header), 0, rgd, gd, overHead);
            out.write(ByteBuffer.wrap(header), 0);
            long next = overHead;
            for (long directory : new long[] {rgd, gd}) {
                byte[] entries = new byte[tables * 4];
                next = overHead;
                for (int t = 0, laid = 0; t < tables; t++) {
                    long table = directory + directorySectors + t * 4L;
                    little(entries).putInt(t * 4, (int) table);
                    int here = Math.min(perTable, grains - laid);
                    byte[] bytes = new byte[2048];
                    for (int i = 0; i < here; i++, next += 128) {
                        little(bytes).putInt((2 * i) * 4, (int) next);
                    }
                    if (here > 0) {
                        out.write(ByteBuffer.wrap(bytes), table * SECTOR);
                    }
                    laid += here;
                }
                out.write(ByteBuffer.wrap(entries), directory * SECTOR);
            }
            out.write(ByteBuffer.allocate(1), next * SECTOR - 1);
        }
    }
}

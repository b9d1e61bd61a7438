// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Zeros;
import dev.erofsublk.composer.cache.CacheDirectory;
import dev.erofsublk.composer.cache.CachedSource;
import dev.erofsublk.composer.cache.DecodeException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Images of every kind that Nydus builds, from {@link RafsBuilder}, decoded and compared byte for byte. */
final class RafsImageTest {
    @TempDir
    Path directory;

    /** The kinds of images. */
    enum Kind {
        V1_NONE(b -> b.compressor = RafsBuilder.NONE),
        V1_LZ4(b -> b.compressor = RafsBuilder.LZ4),
        V1_GZIP(b -> b.compressor = RafsBuilder.GZIP),
        V1_ZSTD(b -> b.compressor = RafsBuilder.ZSTD),
        V2_NONE(b -> {
            b.v2 = true;
            b.compressor = RafsBuilder.NONE;
        }),
        V2_LZ4(b -> {
            b.v2 = true;
            b.compressor = RafsBuilder.LZ4;
        }),
        V2_GZIP(b -> {
            b.v2 = true;
            b.compressor = RafsBuilder.GZIP;
        }),
        V2_ZSTD_CRC(b -> {
            b.v2 = true;
            b.crc = true;
        }),
        TAR_HEADERS(b -> b.tarHeaders = true),
        TOC_AND_DIGESTS(b -> {
            b.tarHeaders = true;
            b.toc = true;
            b.digestsInBlob = true;
            b.sha256 = true;
        }),
        DIGESTS_IN_BLOB_ONLY(b -> {
            b.tarHeaders = true;
            b.toc = true;
            b.digestsInBlob = true;
            b.digestsInBootstrap = false;
        }),
        NO_DIGESTS(b -> b.digestsInBootstrap = false),
        PACKED_TABLE_ZSTD(b -> b.ciCompressor = RafsBuilder.ZSTD),
        PACKED_TABLE_LZ4(b -> b.ciCompressor = RafsBuilder.LZ4),
        PACKED_TABLE_GZIP(b -> b.ciCompressor = RafsBuilder.GZIP),
        BATCH(b -> {
            b.v2 = true;
            b.batchSize = 16384;
        }),
        BATCH_LZ4_ENCRYPTED(b -> {
            b.v2 = true;
            b.batchSize = 32768;
            b.compressor = RafsBuilder.LZ4;
            b.encrypted = true;
        }),
        BATCH_NONE(b -> {
            b.v2 = true;
            b.batchSize = 16384;
            b.compressor = RafsBuilder.NONE;
        }),
        ENCRYPTED_NONE(b -> {
            b.v2 = true;
            b.encrypted = true;
            b.compressor = RafsBuilder.NONE;
        }),
        ENCRYPTED_ZSTD_TOC(b -> {
            b.v2 = true;
            b.encrypted = true;
            b.toc = true;
            b.tarHeaders = true;
            b.digestsInBlob = true;
            b.ciCompressor = RafsBuilder.ZSTD;
        }),
        ZRAN(b -> {
            b.v2 = true;
            b.zran = true;
            b.ciCompressor = RafsBuilder.ZSTD;
        }),
        ZRAN_TOC_EMBEDDED(b -> {
            b.v2 = true;
            b.zran = true;
            b.toc = true;
            b.tarHeaders = true;
            b.embedded = true;
            b.ciCompressor = RafsBuilder.ZSTD;
        }),
        TAR_REF(b -> {
            b.v2 = true;
            b.tarRef = true;
            b.compressor = RafsBuilder.NONE;
        }),
        TARFS(b -> b.tarfs = true),
        EMBEDDED_ZSTD(b -> {
            b.embedded = true;
            b.toc = true;
            b.tarHeaders = true;
        }),
        EMBEDDED_LZ4(b -> {
            b.embedded = true;
            b.toc = true;
            b.tarHeaders = true;
            b.embeddedCompressor = RafsBuilder.LZ4;
        }),
        EMBEDDED_PLAIN_WITHOUT_TOC(b -> {
            b.embedded = true;
            b.tarHeaders = true;
            b.embeddedCompressor = RafsBuilder.NONE;
        }),
        TWO_MEBIBYTES_APART(b -> b.alignment = 2 << 20),
        WITHOUT_ADDRESS(b -> b.noAddress = true),
        WITHOUT_ADDRESS_AND_LENGTH(b -> {
            b.noAddress = true;
            b.noBlocks = true;
            b.checksum = true;
        }),
        OLD_HEADER(b -> b.oldHeader = true),
        OLD_HEADER_PACKED(b -> {
            b.oldHeader = true;
            b.ciCompressor = RafsBuilder.ZSTD;
        });

        @SuppressWarnings("ImmutableEnumChecker") // the lambdas above capture nothing
        private final Consumer<RafsBuilder> options;

        Kind(Consumer<RafsBuilder> options) {
            this.options = options;
        }

        RafsBuilder builder(long seed) {
            RafsBuilder builder = new RafsBuilder();
            options.accept(builder);
            fill(builder, new Random(seed));
            return builder;
        }
    }

    /** Files of all sizes and natures; sizes are such that no chunk spans the two halves of a tar.gz. */
    static void fill(RafsBuilder builder, Random random) {
        builder.file("a-text", text(random, 300_000));
        builder.file("b-one-byte", new byte[] {'x'});
        builder.file("c-small", text(random, 700));
        builder.file("d-noise", noise(random, 70_001));
        builder.file("e-empty", new byte[0]);
        builder.file("f-page", noise(random, 4096));
        builder.file("g-zeros", new byte[200_000]);
        builder.file("h-chunk", text(random, 65536));
        for (int i = 0; i < 8; i++) {
            builder.file("i-small-" + i, text(random, 1 + random.nextInt(9000)));
        }
        builder.file("j-fifteen", text(random, 15));
        builder.file("k-eighteen", noise(random, 18));
        builder.file("l-tail", text(random, 260_000));
    }

    static byte[] noise(Random random, int length) {
        byte[] bytes = new byte[length];
        random.nextBytes(bytes);
        return bytes;
    }

    static byte[] text(Random random, int length) {
        byte[] bytes = new byte[length];
        String[] words = {"layer ", "extent ", "blob ", "sector\n", "chunk ", "device ", "0123456789 ", "unmount "};
        for (int at = 0; at < length; ) {
            byte[] word = (words[random.nextInt(words.length)] + random.nextInt(1000))
                    .getBytes(java.nio.charset.StandardCharsets.US_ASCII);
            int n = Math.min(word.length, length - at);
            System.arraycopy(word, 0, bytes, at, n);
            at += n;
        }
        return bytes;
    }

    private RafsImage open(RafsBuilder.Built built) throws IOException {
        return RafsImage.open(built.bootstrap, BlobFinder.in(directory), CacheDirectory.at(directory.resolve("cache")));
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void everyByteOfTheDeviceIsRight(Kind kind) throws Exception {
        RafsBuilder.Built built = kind.builder(42).build(directory);
        try (RafsImage image = open(built)) {
            byte[] device = Raw.bytes(image.flat());
            long start = image.erofs().devices().getFirst().slot().block()
                    * image.erofs().superblock().blockSize();
            assertThat(start).isPositive();
            byte[] data = Arrays.copyOfRange(device, (int) start, (int) start + built.decoded.length);
            assertThat(Arrays.mismatch(data, built.decoded)).isEqualTo(-1);
            assertThat(device.length).isEqualTo((int) start + built.decoded.length);
            assertThat(problems(image)).isEmpty();
        }
        // Once more, from the cache alone: nothing is decoded again.
        try (RafsImage image = open(built)) {
            for (var source : image.flat().sources()) {
                if (source instanceof CachedSource cached) {
                    assertThat(cached.present(0, cached.size())).isTrue();
                }
            }
        }
    }

    @ParameterizedTest
    @EnumSource(Kind.class)
    void theKernelMountsItAndReadsEveryFile(Kind kind) throws Exception {
        Assumptions.assumeTrue(
                Mount.isPossible(), "not run: needs root, a loop device and EROFS in the kernel (" + Mount.why() + ")");
        RafsBuilder.Built built = kind.builder(43).build(directory);
        Path raw = directory.resolve("device");
        try (RafsImage image = open(built)) {
            Raw.export(image.flat(), raw);
        }
        try (Mount mount = Mount.of(raw, directory.resolve("mnt"))) {
            for (var file : built.files.entrySet()) {
                byte[] read = Files.readAllBytes(mount.path().resolve(file.getKey()));
                assertThat(Arrays.equals(read, file.getValue()))
                        .as(file.getKey())
                        .isTrue();
            }
        }
    }

    @Test
    void chunksStoredAtTheirOwnOffsetsAreServedFromTheBlobItself() throws Exception {
        RafsBuilder builder = new RafsBuilder();
        builder.compressor = RafsBuilder.NONE;
        builder.file("a", noise(new Random(1), 8192)).file("b", noise(new Random(2), 65536 + 4096));
        RafsBuilder.Built built = builder.build(directory);
        try (RafsImage image = open(built)) {
            Extent blob = image.flat().extent(image.flat().extentCount() - 1);
            assertThat(blob.source()).isInstanceOf(Blob.class);
            assertThat(((Blob) blob.source()).path()).isEqualTo(built.blob);
            assertThat(blob.length()).isEqualTo(built.decoded.length);
            assertThat(problems(image)).isEmpty();
        }
    }

    /** Three blobs of different kinds, with addresses and without. */
    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void severalBlobsOfSeveralKindsAreOneDevice(boolean addresses) throws Exception {
        Kind[] kinds = {Kind.V1_LZ4, Kind.BATCH_LZ4_ENCRYPTED, Kind.TOC_AND_DIGESTS};
        RafsBuilder head = new RafsBuilder();
        head.noAddress = !addresses;
        List<RafsBuilder> parts = new ArrayList<>();
        List<RafsBuilder.Built> built = new ArrayList<>();
        Random random = new Random(17);
        for (Kind kind : kinds) {
            RafsBuilder part = new RafsBuilder();
            kind.options.accept(part);
            for (int i = 0; i < 12; i++) {
                part.file(
                        kind.name().toLowerCase(java.util.Locale.ROOT) + i, text(random, 1 + random.nextInt(100_000)));
            }
            parts.add(part);
            built.add(part.build(directory));
        }
        Path bootstrap = head.merge(directory, parts);
        Path raw = directory.resolve("device");
        try (RafsImage image =
                RafsImage.open(bootstrap, BlobFinder.in(directory), CacheDirectory.at(directory.resolve("cache")))) {
            byte[] device = Raw.bytes(image.flat());
            for (int i = 0; i < kinds.length; i++) {
                int start = (int) image.erofs().devices().get(i).slot().block() * 4096;
                byte[] decoded = built.get(i).decoded;
                assertThat(Arrays.equals(Arrays.copyOfRange(device, start, start + decoded.length), decoded))
                        .as(kinds[i].name())
                        .isTrue();
            }
            Raw.export(image.flat(), raw);
        }
        if (Mount.isPossible()) {
            try (Mount mount = Mount.of(raw, directory.resolve("mnt"))) {
                for (RafsBuilder.Built part : built) {
                    for (var file : part.files.entrySet()) {
                        byte[] read = Files.readAllBytes(mount.path().resolve(file.getKey()));
                        assertThat(Arrays.equals(read, file.getValue()))
                                .as(file.getKey())
                                .isTrue();
                    }
                }
            }
        }
    }

    @Test
    void oneBlobInTwoSlotsIsRefused() throws Exception {
        RafsBuilder part = Kind.V1_ZSTD.builder(7);
        RafsBuilder twin = Kind.V1_ZSTD.builder(7);
        part.build(directory);
        twin.build(directory);
        Path bootstrap = new RafsBuilder().merge(directory, List.of(part, twin));
        assertThatThrownBy(() -> RafsImage.open(
                        bootstrap, BlobFinder.in(directory), CacheDirectory.at(directory.resolve("cache"))))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("blob_table[1].blob_id");
    }

    @Test
    void aSlotWithoutAddressIsPlacedBehindTheMetadataInTheServedCopyOnly() throws Exception {
        RafsBuilder.Built built = Kind.WITHOUT_ADDRESS_AND_LENGTH.builder(7).build(directory);
        byte[] before = Files.readAllBytes(built.bootstrap);
        try (RafsImage image = open(built)) {
            assertThat(image.erofs().repairs()).hasSize(1);
            assertThat(image.erofs().devices().getFirst().slot().block()).isEqualTo(before.length / 4096);
            ByteBuffer served = ByteBuffer.wrap(Raw.bytes(image.flat())).order(ByteOrder.LITTLE_ENDIAN);
            assertThat(served.getInt(1472)).isEqualTo(built.decoded.length / 4096);
            assertThat(served.getInt(1476)).isEqualTo(before.length / 4096);
        }
        assertThat(Files.readAllBytes(built.bootstrap)).isEqualTo(before);
    }

    @Test
    void theHoleBeforeABlobIsZeros() throws Exception {
        RafsBuilder.Built built = Kind.TWO_MEBIBYTES_APART.builder(7).build(directory);
        try (RafsImage image = open(built)) {
            FlatImage flat = image.flat();
            Extent hole = flat.extent(1);
            assertThat(hole.source()).isSameAs(Zeros.INSTANCE);
            assertThat(hole.end()).isEqualTo(2 << 20);
        }
    }

    @Test
    void nothingIsDecodedBeforeSomebodyReads() throws Exception {
        RafsBuilder.Built built = Kind.V1_ZSTD.builder(7).build(directory);
        try (RafsImage image = open(built)) {
            CachedSource cached = cached(image);
            assertThat(cached.presentCount()).isZero();
            cached.ensure(0, 1);
            assertThat(cached.presentCount()).isEqualTo(1);
            assertThat(cached.present(0, 4096)).isTrue();
            assertThat(cached.present(0, cached.size())).isFalse();
        }
    }

    @Test
    void oneChunkOfABatchBringsTheOthersAlong() throws Exception {
        RafsBuilder.Built built = Kind.BATCH.builder(7).build(directory);
        try (RafsImage image = open(built)) {
            CachedSource cached = cached(image);
            RafsBuilder.Chunk first = built.chunks.stream()
                    .filter(c -> c.context == 0)
                    .findFirst()
                    .orElseThrow();
            long batch = built.chunks.stream().filter(c -> c.context == 0).count();
            assertThat(batch).isGreaterThan(1);
            cached.ensure(first.offset, 1);
            assertThat(cached.presentCount()).isEqualTo((int) batch);
        }
    }

    private static CachedSource cached(RafsImage image) {
        return (CachedSource)
                image.flat().extent(image.flat().extentCount() - 1).source();
    }

    @ParameterizedTest
    @EnumSource(
            value = Kind.class,
            names = {
                "V1_NONE",
                "V1_LZ4",
                "V2_GZIP",
                "V1_ZSTD",
                "BATCH",
                "ZRAN",
                "TAR_REF",
                "ENCRYPTED_NONE",
                "DIGESTS_IN_BLOB_ONLY"
            })
    void aDamagedChunkIsAnErrorThatNamesItAndIsNotCached(Kind kind) throws Exception {
        RafsBuilder.Built built = kind.builder(7).build(directory);
        RafsBuilder.Chunk victim = built.chunks.stream()
                .filter(c -> c.file.equals("d-noise"))
                .findFirst()
                .orElseThrow();
        int index = built.chunks.indexOf(victim);
        try (RafsImage image = open(built)) {
            flip(built.blob, victim.encodedOffset + victim.encodedSize / 2);
            CachedSource cached = cached(image);
            assertThatThrownBy(() -> cached.ensure(victim.offset, 10))
                    .isInstanceOf(DecodeException.class)
                    .hasMessageContaining(built.blob.toString())
                    .hasMessageContaining("chunk " + index + " of blob 0")
                    .hasMessageContaining(", of /d-noise");
            assertThat(cached.present(victim.offset, 1)).isFalse();
            assertThat(problems(image))
                    .isNotEmpty()
                    .allSatisfy(line -> assertThat(line).contains(built.blob.toString(), " of /"));
            flip(built.blob, victim.encodedOffset + victim.encodedSize / 2);
            cached.ensure(victim.offset, 10); // mended: the failure was not remembered either
        }
    }

    @Test
    void aWrongDigestIsAnErrorThoughTheDataDecode() throws Exception {
        RafsBuilder builder = Kind.V2_ZSTD_CRC.builder(7);
        RafsBuilder.Built built = builder.build(directory);
        byte[] bootstrap = Files.readAllBytes(built.bootstrap);
        ByteBuffer le = ByteBuffer.wrap(bootstrap).order(ByteOrder.LITTLE_ENDIAN);
        int table = (int) le.getLong(1176);
        bootstrap[table] ^= 1; // of the first chunk in the table
        int chunk = le.getInt(table + 72);
        Files.write(built.bootstrap, bootstrap);
        try (RafsImage image = open(built)) {
            RafsBuilder.Chunk victim = built.chunks.get(chunk);
            assertThatThrownBy(() -> cached(image).ensure(victim.offset, 1))
                    .isInstanceOf(DecodeException.class)
                    .hasMessageContaining("chunk " + chunk + " of blob 0")
                    .hasMessageContaining("blake3 is ");
            assertThat(cached(image).presentCount()).isZero();
        }
    }

    @Test
    void everyDamagedChunkIsFoundAndItsFilesAreNamed() throws Exception {
        RafsBuilder.Built built = Kind.V1_ZSTD.builder(7).build(directory);
        List<RafsBuilder.Chunk> victims =
                built.chunks.stream().filter(c -> c.file.equals("d-noise")).toList();
        assertThat(victims).hasSizeGreaterThan(1);
        for (RafsBuilder.Chunk victim : victims) {
            flip(built.blob, victim.encodedOffset + victim.encodedSize / 2);
        }
        try (RafsImage image = open(built)) {
            assertThat(problems(image))
                    .hasSize(victims.size())
                    .allSatisfy(line -> assertThat(line).contains(", of /d-noise): "));
            List<Long> progress = new ArrayList<>();
            List<IOException> first = new ArrayList<>();
            assertThat(image.verify(progress::add, problem -> first.add(problem) && first.size() < 2))
                    .isFalse();
            assertThat(first).hasSize(2);
            assertThat(progress).isSorted();
            assertThat(cached(image).presentCount()).isZero(); // nothing is kept
        }
    }

    /** The messages of all that is wrong with the chunks. */
    static List<String> problems(RafsImage image) {
        List<String> problems = new ArrayList<>();
        assertThat(image.verify(n -> {}, problem -> problems.add(String.valueOf(problem.getMessage()))))
                .isTrue();
        return problems;
    }

    @Test
    void aWrongDigestInABatchSparesTheOthersOfIt() throws Exception {
        RafsBuilder.Built built = Kind.BATCH.builder(7).build(directory);
        List<RafsBuilder.Chunk> batch =
                built.chunks.stream().filter(c -> c.context == 0).toList();
        RafsBuilder.Chunk victim = batch.get(1);
        int index = built.chunks.indexOf(victim);
        byte[] bootstrap = Files.readAllBytes(built.bootstrap);
        ByteBuffer le = ByteBuffer.wrap(bootstrap).order(ByteOrder.LITTLE_ENDIAN);
        for (int at = (int) le.getLong(1176); le.getInt(at + 44) != 0; at += 80) {
            if (le.getInt(at + 72) == index) {
                bootstrap[at + 5] ^= 1;
            }
        }
        Files.write(built.bootstrap, bootstrap);
        try (RafsImage image = open(built)) {
            assertThatThrownBy(() -> cached(image).ensure(victim.offset, 1))
                    .isInstanceOf(DecodeException.class)
                    .hasMessageContaining("chunk " + index + " of blob 0");
            cached(image).ensure(batch.get(0).offset, 1);
            assertThat(cached(image).presentCount()).isEqualTo(batch.size() - 1);
            assertThat(cached(image).present(victim.offset, 1)).isFalse();
        }
    }

    @Test
    void aWrongCrcIsAnErrorWhereThereIsNoDigest() throws Exception {
        RafsBuilder builder = Kind.V2_NONE.builder(7);
        builder.crc = true;
        builder.digestsInBootstrap = false;
        RafsBuilder.Built built = builder.build(directory);
        flip(built.blob, built.chunks.get(2).encodedOffset + 9);
        try (RafsImage image = open(built)) {
            assertThatThrownBy(() -> cached(image).ensure(built.chunks.get(2).offset, 1))
                    .isInstanceOf(DecodeException.class)
                    .hasMessageContaining("chunk 2 of blob 0")
                    .hasMessageContaining("crc32c is ");
            assertThat(cached(image).presentCount()).isZero();
        }
    }

    /** Opening reads tables and no chunk: its time follows the number of chunks, here 15,000, and not their bytes. */
    @Test
    void aTableOfManyChunksIsOpenedInTime() throws Exception {
        RafsBuilder builder = new RafsBuilder();
        builder.compressor = RafsBuilder.LZ4;
        builder.chunkSize = 4096;
        builder.digestsInBootstrap = false;
        builder.file("zeros", new byte[15_000 * 4096]).file("one", new byte[] {1});
        RafsBuilder.Built built = builder.build(directory);
        open(built).close();
        long start = System.nanoTime();
        open(built).close();
        assertThat(TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start)).isLessThan(500);
    }

    @Test
    void aDamagedTableOfContentsIsRefused() throws Exception {
        RafsBuilder.Built built = Kind.TOC_AND_DIGESTS.builder(7).build(directory);
        flip(built.blob, Files.size(built.blob) - 512 - 128 + 60);
        assertThatThrownBy(() -> open(built))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("sha256 of rafs.blob.toc");
    }

    @Test
    void aDamagedChunkTableIsRefused() throws Exception {
        RafsBuilder.Built built = Kind.TOC_AND_DIGESTS.builder(7).build(directory);
        flip(built.blob, built.ciOffset + 3);
        assertThatThrownBy(() -> open(built))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("sha256 of blob.meta");
    }

    @Test
    void aShortBlobIsRefused() throws Exception {
        RafsBuilder.Built built = Kind.V1_ZSTD.builder(7).build(directory);
        byte[] blob = Files.readAllBytes(built.blob);
        Files.write(built.blob, Arrays.copyOf(blob, blob.length - 1));
        assertThatThrownBy(() -> open(built))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining(built.blob.toString())
                .hasMessageContaining("size");
    }

    @Test
    void aMissingBlobIsRefusedByItsId() throws Exception {
        RafsBuilder.Built built = Kind.V1_ZSTD.builder(7).build(directory);
        Files.delete(built.blob);
        assertThatThrownBy(() -> open(built))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("blob_table[0].blob_id is " + built.blobId);
    }

    /** Fields of the blob table, a value that must be refused, and what the message must name. */
    @ParameterizedTest
    @CsvSource(
            delimiter = ':',
            value = {
                "0:0x2e2e2f2e:blob_id",
                "64:1:blob_index",
                "72:0x1000001:chunk_count",
                "72:0:chunk_count",
                "76:4:compressor",
                "80:2:digester",
                "84:0x40001001:features",
                "84:0x40000801:features",
                "84:0x40000041:features",
                "84:0x40000101:features",
                "92:0x7fffffff:size",
                "100:0x7fffffff:uncompressed_size",
                "96:0x1000:uncompressed_size",
                "108:7:ci_compressor",
                "116:0x7fffffff:size",
                "124:0x7fffffff:ci_compressed_size",
                "128:0x7fffffff:ci_uncompressed_size",
                "216:3:cipher",
                "216:1:features"
            })
    void aFieldOfTheBlobTableThatCannotBeIsRefusedByName(int at, String value, String named) throws Exception {
        RafsBuilder.Built built = Kind.V1_ZSTD.builder(7).build(directory);
        byte[] bootstrap = Files.readAllBytes(built.bootstrap);
        ByteBuffer.wrap(bootstrap).order(ByteOrder.LITTLE_ENDIAN).putInt(4096 + at, Integer.decode(value));
        Files.write(built.bootstrap, bootstrap);
        assertThatThrownBy(() -> open(built)).isInstanceOf(ImageException.class).hasMessageContaining(named);
    }

    @Test
    void aSlotOfAnotherLengthThanItsBlobIsRefused() throws Exception {
        RafsBuilder.Built built = Kind.V1_ZSTD.builder(7).build(directory);
        byte[] bootstrap = Files.readAllBytes(built.bootstrap);
        ByteBuffer le = ByteBuffer.wrap(bootstrap).order(ByteOrder.LITTLE_ENDIAN);
        le.putInt(1472, le.getInt(1472) - 1);
        Files.write(built.bootstrap, bootstrap);
        assertThatThrownBy(() -> open(built))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("device slot 1 blocks");
    }

    @Test
    void aFileThatIsNoRafsImageIsRefused() throws Exception {
        Path file = directory.resolve("noise");
        Files.write(file, noise(new Random(5), 20000));
        assertThatThrownBy(() ->
                        RafsImage.open(file, BlobFinder.in(directory), CacheDirectory.at(directory.resolve("cache"))))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("RAFS v6");
    }

    @Test
    void twoImagesOverOneBlobShareWhatIsDecoded() throws Exception {
        RafsBuilder.Built built = Kind.V1_ZSTD.builder(7).build(directory);
        try (RafsImage one = open(built);
                RafsImage other = open(built)) {
            assertThat(cached(one).cache().status().inode())
                    .isEqualTo(cached(other).cache().status().inode());
            cached(one).ensure(0, cached(one).size());
            byte[] before = Files.readAllBytes(built.blob);
            Files.write(built.blob, new byte[before.length]); // whoever decodes now, fails
            cached(other).ensure(0, cached(other).size());
            assertThat(Raw.bytes(other.flat())).isEqualTo(Raw.bytes(one.flat()));
        }
    }

    @Test
    void anotherContentUnderTheSameNameHasAnotherCache() throws Exception {
        RafsBuilder.Built built = Kind.NO_DIGESTS.builder(7).build(directory);
        try (RafsImage image = open(built)) {
            cached(image).ensure(0, cached(image).size());
        }
        byte[] blob = Files.readAllBytes(built.blob);
        TimeUnit.MILLISECONDS.sleep(20); // the file system's clock may tick that slowly
        Files.write(built.blob, blob);
        try (RafsImage image = open(built)) {
            assertThat(cached(image).presentCount()).isZero();
        }
    }

    static void flip(Path file, long offset) throws IOException {
        try (var channel = Files.newByteChannel(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            ByteBuffer one = ByteBuffer.allocate(1);
            channel.position(offset).read(one);
            one.flip();
            one.put(0, (byte) (one.get(0) ^ 0x55));
            channel.position(offset).write(one);
        }
    }
}

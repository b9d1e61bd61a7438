// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.FlatImage;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** What {@code qemu-img} makes, and what it makes of ours; not run where it is not installed. */
class VmdkQemuTest {
    @TempDir
    Path folder;

    private final long seed = System.nanoTime();
    private final Random random = new Random(seed);
    private final List<Long> written = new ArrayList<>();
    private final Tool qemu = new Tool("qemu-img");

    @BeforeEach
    void printSeed() {
        System.out.println("VmdkQemuTest seed " + seed);
    }

    /** A sparse raw file with random data in random places. */
    private Path raw(long size) throws IOException {
        Path raw = folder.resolve("raw");
        try (RandomAccessFile file = new RandomAccessFile(raw.toFile(), "rw")) {
            file.setLength(size);
            for (int i = 0; i < 40; i++) {
                byte[] data = new byte[512 * (1 + random.nextInt(400))];
                if (random.nextBoolean()) {
                    random.nextBytes(data);
                } else {
                    Arrays.fill(data, (byte) (1 + random.nextInt(100)));
                }
                long at = random.nextLong(size / 512) * 512;
                written.add(at);
                file.seek(at);
                file.write(data, 0, (int) Math.min(data.length, size - at));
            }
        }
        return raw;
    }

    private static String sha256(Path file) throws IOException {
        MessageDigest digest = Content.newDigest();
        try (var in = Files.newInputStream(file)) {
            byte[] buffer = new byte[1 << 20];
            for (int n = in.read(buffer); n > 0; n = in.read(buffer)) {
                digest.update(buffer, 0, n);
            }
        }
        return HexFormat.of().formatHex(digest.digest());
    }

    private void assertReadAsQemuReads(Path disk) throws IOException {
        Path out = folder.resolve("out.raw");
        qemu.run(folder, "convert", "-f", "vmdk", "-O", "raw", disk, out);
        assertThat(Content.sha256(disk)).as("seed %d", seed).isEqualTo(sha256(out));
    }

    static List<String> optionsOfQemu() {
        List<String> all = new ArrayList<>();
        for (String form : List.of(
                "monolithicSparse",
                "monolithicFlat",
                "twoGbMaxExtentSparse",
                "twoGbMaxExtentFlat",
                "streamOptimized")) {
            for (String option : List.of(
                    "",
                    ",compat6=on",
                    ",hwversion=13",
                    ",toolsversion=7",
                    ",adapter_type=lsilogic",
                    ",adapter_type=buslogic",
                    ",adapter_type=legacyESX",
                    ",zeroed_grain=on")) {
                if (!(form.endsWith("Flat") && option.contains("zeroed"))) {
                    all.add("subformat=" + form + option);
                }
            }
        }
        return all;
    }

    @ParameterizedTest
    @MethodSource("optionsOfQemu")
    void whatConvertMakesIsReadRight(String options) throws IOException {
        for (long size : new long[] {(10 << 20) + 512, 65536 - 512, 512, (33 << 20) + 1536}) {
            Path raw = raw(size);
            Path disk = folder.resolve("d.vmdk");
            qemu.run(folder, "convert", "-f", "raw", "-O", "vmdk", "-o", options, raw, disk);
            assertThat(Content.sha256(disk)).as("%d bytes, seed %d", size, seed).isEqualTo(sha256(raw));
            Files.delete(raw);
        }
    }

    @ParameterizedTest
    @MethodSource("optionsOfQemu")
    void whatCreateMakesIsReadAsZeros(String options) throws IOException {
        Path disk = folder.resolve("d.vmdk");
        qemu.run(folder, "create", "-f", "vmdk", "-o", options, disk, "10M");
        assertThat(Content.bytes(disk)).isEqualTo(new byte[10 << 20]);
    }

    @ParameterizedTest
    @CsvSource({"twoGbMaxExtentSparse, 3", "twoGbMaxExtentFlat, 3", "monolithicSparse, 1", "streamOptimized, 1"})
    void aDiskOfFiveGibibytesIsReadRight(String form, int extents) throws IOException {
        Path raw = raw((5L << 30) + 512);
        Path disk = folder.resolve("d.vmdk");
        qemu.run(folder, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=" + form, raw, disk);
        Description description = new Description();
        try (VmdkImage image = Content.open(disk, Confinement.OWN_FOLDER);
                Blob expected = Blob.open(raw)) {
            image.describe(description);
            assertThat(description.sections().getOrDefault("extents", List.of()))
                    .hasSize(extents);
            assertThat(image.flat().size()).isEqualTo(expected.size());
            FlatImage original =
                    FlatImage.builder(512).append(expected.size(), expected, 0).build();
            // Hashing 5 GiB of zeros takes most of a minute: where something was written, and what is stored.
            for (long at : written) {
                assertSame(image.flat(), original, at);
            }
            for (int i = 0; i < image.flat().extentCount(); i++) {
                assertSame(image.flat(), original, image.flat().extent(i).start());
            }
        }
    }

    private void assertSame(FlatImage found, FlatImage expected, long at) throws IOException {
        long start = Math.max(0, at - 65536);
        int length = (int) Math.min(500_000, expected.size() - start);
        Content.assertSame("seed " + seed, Content.bytes(found, start, length), Content.bytes(expected, start, length));
    }

    @ParameterizedTest
    @CsvSource({
        "monolithicSparse, ''",
        "twoGbMaxExtentSparse, ''",
        "monolithicSparse, ',zeroed_grain=on'",
        "twoGbMaxExtentSparse, ',zeroed_grain=on'"
    })
    void anOverlayWithWritesAndZeroesIsReadRight(String form, String more) throws IOException {
        Tool io = new Tool("qemu-io");
        qemu.run(folder, "convert", "-f", "raw", "-O", "vmdk", raw(20 << 20), "base.vmdk");
        qemu.run(
                folder,
                "create",
                "-f",
                "vmdk",
                "-b",
                "base.vmdk",
                "-F",
                "vmdk",
                "-o",
                "subformat=" + form + more,
                "o.vmdk");
        for (int i = 0; i < 12; i++) {
            int at = random.nextInt(40000) * 512;
            int length = (1 + random.nextInt(500)) * 512;
            boolean zero = random.nextInt(3) == 0;
            String write = zero ? "write -z" : "write -P " + random.nextInt(256);
            io.run(folder, "-f", "vmdk", "-c", write + " " + at + " " + Math.min(length, (20 << 20) - at), "o.vmdk");
        }
        qemu.run(folder, "create", "-f", "vmdk", "-b", "o.vmdk", "-F", "vmdk", "p.vmdk");
        io.run(folder, "-f", "vmdk", "-c", "write -P 77 1M 300k", "p.vmdk");
        assertReadAsQemuReads(folder.resolve("o.vmdk"));
        assertReadAsQemuReads(folder.resolve("p.vmdk"));
    }

    static List<Fixture> fixtures() {
        List<Fixture> fixtures = Fixture.all();
        fixtures.removeIf(f -> f.name().contains("without markers")); // QEMU fails on these
        return fixtures;
    }

    /** QEMU as a second reader of what the writers of the tests make. */
    @ParameterizedTest
    @MethodSource("fixtures")
    void whatTheTestsMakeIsReadAsQemuReadsIt(Fixture fixture) throws IOException {
        assertReadAsQemuReads(fixture.write(folder, fixture.damagedFile()));
    }

    /** The rows of facts/vmdisk.md §0 where QEMU answers with wrong bytes and no error: it still does. */
    @Test
    void qemuReadsZerosWhereAnExtentIsTooShortAndWeRefuse() throws IOException {
        Files.write(folder.resolve("f"), new byte[512]);
        Path disk = folder.resolve("d.vmdk");
        Files.writeString(disk, SparseBuilder.descriptor("monolithicFlat", "RW 9 FLAT \"f\" 0", "1", ""));
        assertThat(qemu.tryRun(folder, "convert", "-f", "vmdk", "-O", "raw", disk, "out")
                        .code())
                .isZero();
        assertThatThrownBy(() -> Content.open(disk, Confinement.OWN_FOLDER))
                .hasMessageContaining("a place within the file's 512 bytes");
    }
}

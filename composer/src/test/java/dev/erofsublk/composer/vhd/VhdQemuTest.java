// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.RawImage;
import dev.erofsublk.composer.disk.Contents;
import dev.erofsublk.composer.disk.QemuImg;
import java.io.IOException;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Every option with which qemu-img makes a VHD: read as QEMU itself reads it; and what we write is read by it. */
class VhdQemuTest {
    private static final long MIB = 1 << 20;

    @TempDir
    private Path folder;

    @ParameterizedTest
    @CsvSource({
        "dynamic, off, 10485760",
        "dynamic, on, 10485760",
        "dynamic, on, 10486272",
        "dynamic, off, 2097152",
        "dynamic, off, 536870912",
        "dynamic, on, 536870912",
        "fixed, off, 10485760",
        "fixed, on, 10485760",
        "fixed, on, 10486272",
        "fixed, off, 104857600",
    })
    void allSubformatsAndSizes(String subformat, String forced, long size) throws IOException {
        Path raw = QemuImg.raw(folder.resolve("disk.raw"), size, size);
        Path image = folder.resolve("disk.vhd");
        String options = "subformat=" + subformat + ",force_size=" + forced;
        QemuImg.run("convert", "-q", "-O", "vpc", "-o", options, raw, image);
        Path theirs = folder.resolve("theirs.raw");
        QemuImg.run("convert", "-q", "-f", "vpc", "-O", "raw", image, theirs);
        try (VhdImage ours = VhdImage.open(image, Confinement.OWN_FOLDER)) {
            assertThat(Contents.mismatch(ours.flat(), theirs)).isEqualTo(-1);
        }
    }

    @ParameterizedTest
    @ValueSource(longs = {130L << 30, 1L << 40, 2040L << 30})
    void sizesWhoseGeometryIsTheLargestThereIs(long size) throws IOException {
        Path image = folder.resolve("large.vhd");
        QemuImg.run("create", "-q", "-f", "vpc", "-o", "subformat=dynamic,force_size=on", image, size);
        long best = Long.MAX_VALUE;
        for (int i = 0; i < 5; i++) { // the best of five: the machine has other work, and classes are loaded once
            long start = System.nanoTime();
            try (VhdImage ours = VhdImage.open(image, Confinement.OWN_FOLDER)) {
                assertThat(ours.flat().size()).isEqualTo(size);
            }
            best = Math.min(best, System.nanoTime() - start);
        }
        assertThat(best).as("nanoseconds").isLessThan(1_000_000_000L);
    }

    @ParameterizedTest
    @ValueSource(longs = {65536, 10 * MIB, 37 * MIB + 512})
    void qemuReadsWhatWeWrite(long size) throws IOException {
        Path raw = QemuImg.raw(folder.resolve("disk.raw"), size, size);
        Path image = folder.resolve("ours.vhd");
        try (RawImage source = RawImage.open(raw)) {
            VhdWriter.write(source.flat(), image, false, done -> {});
            assertQemuReads(image, source.flat());
        }
    }

    @Test
    void aDynamicDiskMadeFixedByUsIsTheSameToQemu() throws IOException {
        Path raw = QemuImg.raw(folder.resolve("disk.raw"), 9 * MIB, 9);
        Path dynamic = folder.resolve("dynamic.vhd");
        QemuImg.run("convert", "-q", "-O", "vpc", "-o", "force_size=on", raw, dynamic);
        Path fixed = folder.resolve("fixed.vhd");
        try (VhdImage source = VhdImage.open(dynamic, Confinement.OWN_FOLDER)) {
            VhdWriter.write(source.flat(), fixed, false, done -> {});
            assertQemuReads(fixed, source.flat());
            assertQemuReads(dynamic, source.flat());
        }
    }

    private void assertQemuReads(Path vhd, FlatImage expected) throws IOException {
        Path theirs = folder.resolve("theirs.raw");
        QemuImg.run("convert", "-q", "-f", "vpc", "-O", "raw", vhd, theirs);
        assertThat(Contents.mismatch(expected, theirs)).isEqualTo(-1);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.disk.Contents;
import dev.erofsublk.composer.disk.QemuImg;
import java.io.IOException;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Every option with which qemu-img makes a VHDX: read as QEMU itself reads it. */
class VhdxQemuTest {
    private static final long MIB = 1 << 20;

    @TempDir
    private Path folder;

    @ParameterizedTest
    @CsvSource({"1M", "2M", "4M", "8M", "16M", "32M", "64M", "128M", "256M"})
    void allBlockSizesDynamicAndFixed(String blockSize) throws IOException {
        assertReadAsQemuReads(37 * MIB, "subformat=dynamic,block_size=" + blockSize);
        assertReadAsQemuReads(37 * MIB, "subformat=fixed,block_size=" + blockSize);
    }

    @ParameterizedTest
    @ValueSource(strings = {"1M", "2M", "64M", "1G"})
    void allLogSizes(String logSize) throws IOException {
        assertReadAsQemuReads(5 * MIB, "log_size=" + logSize);
    }

    @ParameterizedTest
    @ValueSource(strings = {"on", "off"})
    void blocksWithAndWithoutTheStateZero(String zero) throws IOException {
        assertReadAsQemuReads(64 * MIB, "block_size=1M,block_state_zero=" + zero);
        assertReadAsQemuReads(64 * MIB, "subformat=fixed,block_size=1M,block_state_zero=" + zero);
    }

    @ParameterizedTest
    @ValueSource(longs = {512, 4096, MIB - 512, MIB, MIB + 512, (4L << 30) + 512})
    void sizesAroundBlocksAndChunks(long size) throws IOException {
        assertReadAsQemuReads(size < 32768 ? 65536 : size, "block_size=1M");
        Path empty = folder.resolve("empty.vhdx");
        QemuImg.run("create", "-q", "-f", "vhdx", "-o", "block_size=1M", empty, size);
        try (VhdxImage image = VhdxImage.open(empty, Confinement.OWN_FOLDER)) {
            assertThat(image.flat().size()).isEqualTo(size);
            assertThat(image.flat().extentCount()).isEqualTo(1);
        }
    }

    @Test
    void aTebibyteOpensInWellUnderASecond() throws IOException {
        Path path = folder.resolve("large.vhdx");
        QemuImg.run("create", "-q", "-f", "vhdx", "-o", "block_size=1M", path, 1L << 40);
        long best = Long.MAX_VALUE;
        for (int i = 0; i < 5; i++) { // the best of five: the machine has other work, and classes are loaded once
            long start = System.nanoTime();
            try (VhdxImage image = VhdxImage.open(path, Confinement.OWN_FOLDER)) {
                assertThat(image.flat().size()).isEqualTo(1L << 40);
            }
            best = Math.min(best, System.nanoTime() - start);
        }
        System.out.println("1 TiB sparse VHDX: opened in " + best / 1_000_000 + " ms");
        assertThat(best).as("nanoseconds").isLessThan(1_000_000_000L);
    }

    @Test
    void theLargestDiskIsRead() throws IOException {
        Path path = folder.resolve("largest.vhdx");
        QemuImg.run("create", "-q", "-f", "vhdx", path, 64L << 40);
        try (VhdxImage image = VhdxImage.open(path, Confinement.OWN_FOLDER)) {
            assertThat(image.flat().size()).isEqualTo(64L << 40);
        }
    }

    private void assertReadAsQemuReads(long size, String options) throws IOException {
        Path raw = QemuImg.raw(folder.resolve("disk.raw"), size, size + options.hashCode());
        Path image = folder.resolve("disk.vhdx");
        QemuImg.run("convert", "-q", "-O", "vhdx", "-o", options, raw, image);
        Path theirs = folder.resolve("theirs.raw");
        QemuImg.run("convert", "-q", "-f", "vhdx", "-O", "raw", image, theirs);
        try (VhdxImage ours = VhdxImage.open(image, Confinement.OWN_FOLDER)) {
            assertThat(ours.flat().size()).isEqualTo(size);
            assertThat(Contents.mismatch(ours.flat(), theirs)).as(options).isEqualTo(-1);
        }
    }
}

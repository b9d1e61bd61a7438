// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import static dev.erofsublk.composer.vhdx.VhdxBuilder.BAT;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.FULL;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.MIB;
import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.Confinement;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

class VhdxLargeTest {
    private static final long SIZE = 1L << 40;

    @TempDir
    private Path folder;

    @Test
    @Timeout(120) // on a loaded machine, where it takes seconds; if time grew with their square it would take hours
    void aTebibyteOfAMillionScatteredBlocksIsOpenedInTimeThatGrowsWithItsBlocks() throws IOException {
        Path path = folder.resolve("disk.vhdx");
        int blocks = (int) (SIZE / MIB);
        int entries = blocks + (blocks - 1) / 4096;
        int region = (entries * 8 + MIB - 1) / MIB * MIB;
        VhdxBuilder image = new VhdxBuilder(SIZE, MIB, 512);
        image.file().putInt(VhdxBuilder.REGIONS_1 + 40, region).putInt(VhdxBuilder.REGIONS_2 + 40, region);
        image.write(path);
        long first = (long) BAT + region;
        ByteBuffer table = ByteBuffer.allocate(region).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < blocks; i++) {
            long place = first + (blocks - 1L - i) * MIB; // backwards: no two are neighbours
            table.putLong(8 * (i + i / 4096), place | FULL);
        }
        byte[] bytes = new byte[region];
        table.get(0, bytes);
        try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
            file.seek(BAT);
            file.write(bytes);
            file.setLength(first + SIZE);
        }

        long start = System.nanoTime();
        try (VhdxImage opened = VhdxImage.open(path, Confinement.OWN_FOLDER)) {
            assertThat(opened.flat().size()).isEqualTo(SIZE);
            assertThat(opened.flat().extentCount()).isEqualTo(blocks);
        }
        long millis = (System.nanoTime() - start) / 1_000_000;
        System.out.println("1 TiB VHDX, " + blocks + " scattered blocks: opened in " + millis + " ms");
    }
}

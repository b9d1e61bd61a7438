// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.Confinement;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

class VhdLargeTest {
    private static final long SIZE = 256L << 30;
    private static final int BLOCK = 2 << 20;

    @TempDir
    private Path folder;

    @Test
    @Timeout(120) // on a loaded machine, where it takes seconds; if time grew with their square it would take hours
    void aLargeDiskWithEveryBlockAllocatedIsOpenedInTimeThatGrowsWithItsBlocks() throws IOException {
        // The blocks and their bitmaps are holes of the file: what takes the time is reading the bitmaps, one read
        // each.
        Path path = folder.resolve("disk.vhd");
        int blocks = (int) (SIZE / BLOCK);
        ByteBuffer head = new VhdBuilder(SIZE, BLOCK).file();
        head.putLong(VhdBuilder.HEADER + 16, 4096).putInt(VhdBuilder.HEADER + 28, blocks);
        VhdBuilder.seal(head, VhdBuilder.HEADER, 1024, 36);
        VhdBuilder.seal(head, 0, 512, 64);
        ByteBuffer table = ByteBuffer.allocate(4 * blocks);
        long end = 4096 + 4L * blocks;
        for (int i = 0; i < blocks; i++) {
            table.putInt((int) (end / 512));
            end += 512 + BLOCK;
        }
        try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
            file.write(VhdBuilder.bytes(head));
            file.seek(4096);
            file.write(VhdBuilder.bytes(table));
            file.seek(end);
            file.write(VhdBuilder.bytes(head), 0, 512);
        }

        long start = System.nanoTime();
        try (VhdImage image = VhdImage.open(path, Confinement.OWN_FOLDER)) {
            assertThat(image.flat().size()).isEqualTo(SIZE);
        }
        long millis = (System.nanoTime() - start) / 1_000_000;
        System.out.println("256 GiB VHD, " + blocks + " blocks: opened in " + millis + " ms");
    }
}

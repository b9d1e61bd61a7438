// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.management.OperatingSystemMXBean;
import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/**
 * Disks of many blocks. What is measured is processor time: the machine may be busy with other things, and whoever reads
 * the bitmaps from a disk waits for that in several threads at once.
 */
class VhdLargeTest {
    private static final int BLOCK = 2 << 20;
    private static final byte[] FULL = filled(0xff);
    private static final OperatingSystemMXBean PROCESS =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    @TempDir
    private Path folder;

    /** As tools make them that lay out a disk in advance: no bitmap has been written, half a million could have been. */
    @Test
    @Timeout(120)
    void aTebibyteWithEveryBlockAllocatedAndNoneWrittenIsOpenedAtOnce() throws IOException {
        Path path = write(1L << 40, null);
        assertThat(open(path, 1L << 40, 1)).as("ms of processor time").isLessThan(3000);
    }

    @Test
    @Timeout(120)
    void manyFullBitmapsAreReadInTimeThatGrowsWithTheirNumber() throws IOException {
        long size = Long.getLong("vhd.gibibytes", 64) << 30;
        Path path = write(size, FULL);
        assertThat(open(path, size, (int) (size / BLOCK)))
                .as("ms of processor time")
                .isLessThan(3000);
    }

    /** Four GiB of which every other sector is there take eight million extents: a file of 1 MiB, 640 MiB of memory. */
    @Test
    @Timeout(120)
    void anImageInMorePiecesThanThereIsMemoryForIsRefusedAndEndsNoProcess() throws Exception {
        Path path = write(4L << 30, filled(0x55));
        Path output = folder.resolve("output");
        Process small = new ProcessBuilder(
                        Path.of(System.getProperty("java.home"), "bin/java").toString(),
                        "-Xmx128m",
                        "-XX:+ExitOnOutOfMemoryError",
                        "--enable-native-access=ALL-UNNAMED",
                        "-cp",
                        System.getProperty("java.class.path"),
                        Opened.class.getName(),
                        path.toString())
                .redirectErrorStream(true)
                .redirectOutput(output.toFile())
                .start();
        assertThat(small.waitFor()).as(Files.readString(output)).isZero();
        assertThat(Files.readString(output))
                .contains("disk.vhd: fragments is more than")
                .contains("no more separate extents than the heap of 128 MiB has room for (java -Xmx)");
    }

    /** Opens an image and lays it out in memory, in a process of its own. */
    static final class Opened {
        private Opened() {}

        public static void main(String[] arguments) throws IOException {
            try (VhdImage image = VhdImage.open(Path.of(arguments[0]), Confinement.OWN_FOLDER);
                    AddressSpace space = AddressSpace.map(image.flat())) {
                System.out.println(space.runs() + " runs");
            } catch (ImageException refused) {
                System.out.println(refused.getMessage());
            }
        }
    }

    private static byte[] filled(int value) {
        byte[] bytes = new byte[512];
        Arrays.fill(bytes, (byte) value);
        return bytes;
    }

    private static long open(Path path, long size, int extents) throws IOException {
        long cpu = PROCESS.getProcessCpuTime();
        long wall = System.nanoTime();
        try (VhdImage image = VhdImage.open(path, Confinement.OWN_FOLDER)) {
            assertThat(image.flat().size()).isEqualTo(size);
            assertThat(image.flat().extentCount()).isEqualTo(extents);
        }
        long millis = (PROCESS.getProcessCpuTime() - cpu) / 1_000_000;
        System.out.printf(
                "%d GiB VHD, %d blocks, %d extents: opened with %d ms of processor time in %d ms%n",
                size >> 30, size / BLOCK, extents, millis, (System.nanoTime() - wall) / 1_000_000);
        return millis;
    }

    /** @param bitmap of every block, or null for none that was written */
    private Path write(long size, byte @Nullable [] bitmap) throws IOException {
        Path path = folder.resolve("disk.vhd");
        int blocks = (int) (size / BLOCK);
        ByteBuffer head = new VhdBuilder(size, BLOCK).file();
        head.putLong(VhdBuilder.HEADER + 16, 4096).putInt(VhdBuilder.HEADER + 28, blocks);
        VhdBuilder.seal(head, VhdBuilder.HEADER, 1024, 36);
        VhdBuilder.seal(head, 0, 512, 64);
        ByteBuffer table = ByteBuffer.allocate(4 * blocks);
        long end = 4096 + 4L * blocks;
        try (RandomAccessFile file = new RandomAccessFile(path.toFile(), "rw")) {
            for (int i = 0; i < blocks; i++) {
                table.putInt((int) (end / 512));
                if (bitmap != null) {
                    file.seek(end);
                    file.write(bitmap);
                }
                end += 512 + BLOCK;
            }
            file.seek(0);
            file.write(VhdBuilder.bytes(head));
            file.seek(4096);
            file.write(VhdBuilder.bytes(table));
            file.seek(end);
            file.write(VhdBuilder.bytes(head), 0, 512);
        }
        return path;
    }
}

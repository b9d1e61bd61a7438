// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.uring.Linux;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** An image that looks like a disk with a partition (kernel tests part_01 and part_02). */
@Tag("kernel")
@Timeout(120)
class PartitionTableTest {
    @TempDir
    private Path dir;

    /** Older kernels look for partitions while they start the device, so its queues have to serve by then. */
    @Test
    void itIsNotScannedWhereTheKernelCanLeaveItAndHangsNothingElsewhere() throws Exception {
        byte[] disk = new byte[1 << 20];
        // one entry of a master boot record: type 0x83, first sector 64, 1024 sectors; then the signature
        ByteBuffer.wrap(disk)
                .order(ByteOrder.LITTLE_ENDIAN)
                .put(446 + 4, (byte) 0x83)
                .putInt(446 + 8, 64)
                .putInt(446 + 12, 1024)
                .putShort(510, (short) 0xaa55);
        Blob blob = Blob.open(Files.write(dir.resolve("disk"), disk));
        try (FlatImage image =
                        FlatImage.builder(512).append(blob.size(), blob, 0).build();
                AddressSpace space = AddressSpace.map(image);
                ControlDevice control = ControlDevice.open();
                Device device =
                        Device.start(control, space, new DeviceOptions(DeviceOptions.ANY_ID, 1, 16, 512, 1 << 20));
                Arena arena = Arena.ofConfined()) {
            String name = "ublkb" + device.info().id();
            boolean leaves = Feature.NO_AUTO_PART_SCAN.in(control.features());
            assertThat(Files.exists(Path.of("/sys/block", name, name + "p1"))).isEqualTo(!leaves);
            int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
            MemorySegment sector = arena.allocate(512, 4096);
            assertThat(Linux.read(fd, sector, 0)).isEqualTo(512);
            Linux.close(fd);
            assertThat(sector.mismatch(MemorySegment.ofArray(disk).asSlice(0, 512)))
                    .isEqualTo(-1);
        }
    }
}

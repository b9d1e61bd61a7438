// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Decoded;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.BitSet;
import java.util.Random;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** A device whose bytes are decoded on demand, one unit of it damaged, read through the kernel. */
@Tag("kernel")
class DecodedDeviceTest {
    private static final int UNIT = 1 << 20;
    private static final int UNITS = 24;
    private static final int DAMAGED = 17;

    @ParameterizedTest
    @EnumSource(names = {"DIRECT", "ZERO_COPY"})
    void everyByteIsDecodedBeforeItIsReadAndDamageStaysWhereItIs(DataPath path) throws Exception {
        try (ControlDevice control = ControlDevice.open()) {
            assumeTrue(path.isOffered(control.features()), "this kernel has no UBLK_F_AUTO_BUF_REG (Linux 6.16)");
        }
        DeviceOptions options =
                new DeviceOptions(DeviceOptions.ANY_ID, 1, 64, 4096, 1 << 20, Recovery.NONE, 0, false, path);
        Encoded encoded = new Encoded();
        try (FlatImage image = FlatImage.builder(4096)
                        .append(encoded.size(), encoded, 0)
                        .build();
                AddressSpace space = AddressSpace.map(image);
                ControlDevice control = ControlDevice.open();
                Device device = Device.start(control, space, options)) {
            int fd = Linux.open(device.info().blockPath(), Linux.O_RDONLY | Linux.O_DIRECT);
            readEverywhere(fd, encoded.size());
            Linux.close(fd);
        }
        assertThat(encoded.decoded).as("units decoded").isEqualTo(UNITS - 1);
    }

    private static void readEverywhere(int fd, long size) throws IOException {
        long seed = new Random().nextLong();
        System.out.println("seed " + seed);
        Random random = new Random(seed);
        for (int i = 0; i < 400; i++) {
            int length = 4096 << random.nextInt(6);
            long offset = random.nextLong((size - length) / 4096) * 4096;
            if (offset < (DAMAGED + 1L) * UNIT && offset + length > (long) DAMAGED * UNIT) {
                assertThatThrownBy(() -> read(fd, offset, length)).isInstanceOf(IOException.class);
            } else {
                assertThat(read(fd, offset, length)).isEqualTo(expected(offset, length));
            }
        }
    }

    private static byte[] read(int fd, long offset, int length) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocate(length, 4096);
            assertThat(Linux.read(fd, bytes, offset)).isEqualTo(length);
            return bytes.toArray(ValueLayout.JAVA_BYTE);
        }
    }

    private static byte[] expected(long offset, int length) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) {
            bytes[i] = pattern(offset + i);
        }
        return bytes;
    }

    private static byte pattern(long offset) {
        return (byte) (offset * 31 + (offset >> 12) + 1);
    }

    private static final class Encoded implements Decoded {
        private final Blob cache;
        private final BitSet present = new BitSet();
        private int decoded;

        Encoded() throws IOException {
            int file = Linux.memoryFile("decoded");
            Linux.truncate(file, (long) UNITS * UNIT);
            cache = Blob.adopt(Path.of("decoded"), file);
        }

        @Override
        public Blob cache() {
            return cache;
        }

        @Override
        public int unit() {
            return UNIT;
        }

        @Override
        public synchronized boolean present(long offset, long length) {
            return present.nextClearBit((int) (offset / UNIT)) > (offset + length - 1) / UNIT;
        }

        @Override
        public synchronized void ensure(long offset, long length) throws IOException {
            for (int unit = (int) (offset / UNIT); unit <= (offset + length - 1) / UNIT; unit++) {
                if (unit == DAMAGED) {
                    throw new IOException("unit " + unit + " is damaged");
                }
                if (!present.get(unit)) {
                    decode(unit);
                    present.set(unit);
                }
            }
        }

        private void decode(int unit) throws IOException {
            decoded++;
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment bytes = arena.allocate(UNIT);
                MemorySegment.copy(expected((long) unit * UNIT, UNIT), 0, bytes, ValueLayout.JAVA_BYTE, 0, UNIT);
                Linux.write(cache.fd(), bytes, (long) unit * UNIT);
            }
        }

        @Override
        public String name() {
            return "encoded";
        }

        @Override
        public long size() {
            return cache.size();
        }

        @Override
        public void read(long offset, MemorySegment target) throws IOException {
            ensure(offset, target.byteSize());
            cache.read(offset, target);
        }

        @Override
        public void close() {
            cache.close();
        }
    }
}

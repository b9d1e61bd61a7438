// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.uring.Linux;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AddressSpaceTest {
    @TempDir
    private Path dir;

    @Test
    void everyByteOfARandomGeometryIsAtItsAddress() throws Exception {
        long seed = System.nanoTime();
        System.out.println("AddressSpaceTest seed " + seed);
        Random random = new Random(seed);
        for (int round = 0; round < 40; round++) {
            boolean pageAligned = round % 2 == 0;
            checkRandomGeometry(random, pageAligned, "seed " + seed + ", round " + round);
        }
    }

    private void checkRandomGeometry(Random random, boolean pageAligned, String as) throws Exception {
        int unit = pageAligned ? 4096 : 512;
        List<Blob> blobs = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            byte[] content = new byte[unit * (8 + random.nextInt(64)) + (pageAligned ? 0 : random.nextInt(512))];
            random.nextBytes(content);
            blobs.add(Blob.open(Files.write(dir.resolve("blob" + i), content)));
        }
        FlatImage.Builder builder = FlatImage.builder(512);
        int count = 1 + random.nextInt(40);
        for (int i = 0; i < count; i++) {
            Blob blob = blobs.get(random.nextInt(3));
            long offset = (long) unit * random.nextInt((int) (blob.size() / unit));
            long length = (long) unit * (1 + random.nextInt(8));
            if (random.nextInt(4) == 0) {
                builder.zeros(length);
            } else if (random.nextInt(5) == 0) {
                byte[] patch = new byte[(int) length];
                random.nextBytes(patch);
                builder.append(length, new Bytes("patch", patch), 0);
            } else {
                builder.append(Math.min(length, (blob.size() - offset) & -512), blob, offset);
            }
        }
        try (FlatImage flat = builder.zeros(512).build();
                AddressSpace space = AddressSpace.map(flat)) {
            if (pageAligned) {
                assertThat(space.runs()).as(as).isEqualTo(1);
            }
            assertThat(mapped(space)).as(as).isEqualTo(throughSources(flat));
        } finally {
            blobs.forEach(Blob::close);
        }
    }

    @Test
    void aBlobThatEndsInsideAPageIsFollowedByZerosAndNotByItsOwnBytes() throws Exception {
        byte[] content = new byte[8192];
        Arrays.fill(content, (byte) 7);
        Path file = Files.write(dir.resolve("blob"), content);
        try (FlatImage flat = FlatImage.builder(512)
                        .append(4096 + 512, Blob.open(file), 0)
                        .zerosTo(8192)
                        .build();
                AddressSpace space = AddressSpace.map(flat)) {
            assertThat(space.runs()).isEqualTo(1);
            byte[] expected = Arrays.copyOf(content, 8192);
            Arrays.fill(expected, 4608, 8192, (byte) 0);
            assertThat(mapped(space)).isEqualTo(expected);
        }
    }

    @Test
    void runsEndWhereTheDistanceChanges() throws Exception {
        Path file = Files.write(dir.resolve("blob"), new byte[65536]);
        try (FlatImage flat = FlatImage.builder(512)
                        .append(512, new Bytes("head", new byte[512]), 0)
                        .append(65536, Blob.open(file), 0)
                        .zeros(512)
                        .build();
                AddressSpace space = AddressSpace.map(flat)) {
            assertThat(space.runs()).isEqualTo(3);
            assertThat(space.run(0)).isZero();
            assertThat(space.run(511)).isZero();
            assertThat(space.run(512)).isEqualTo(1);
            assertThat(space.runEnd(1)).isEqualTo(512 + 65536);
            assertThat(space.run(512 + 65536)).isEqualTo(2);
            assertThat(space.runEnd(2)).isEqualTo(space.size());
        }
    }

    private static Blob sparse(long bytes) throws Exception {
        int file = Linux.memoryFile("blob");
        Linux.truncate(file, bytes);
        return Blob.adopt(Path.of("blob"), file);
    }

    @Test
    void whatIsLoadedIsResidentAndNothingElse() throws Exception {
        int unit = Residency.UNIT_BYTES;
        try (FlatImage flat = FlatImage.builder(4096)
                        .append(8L * unit, sparse(8L * unit), 0)
                        .build();
                AddressSpace space = AddressSpace.map(flat)) {
            assertThat(space.load(unit + 4096, unit)).isTrue();
            assertThat(space.residency().missing()).isEqualTo(6);
            assertThat(space.residency().covers(unit, 2L * unit)).isTrue();
            assertThat(space.load(0, space.size())).isTrue();
            assertThat(space.residency().isComplete()).isTrue();
        }
    }

    @Test
    void unitsAreLoadedWhereverTheExtentsOfTheDeviceLie() throws Exception {
        int unit = Residency.UNIT_BYTES;
        Blob blob = sparse(16L * unit + 512);
        FlatImage.Builder builder = FlatImage.builder(512);
        for (int i = 16; i-- > 0; ) {
            builder.append(unit, blob, (long) i * unit + 512); // in two units of the blob each, the last first
        }
        try (FlatImage flat = builder.build();
                AddressSpace space = AddressSpace.map(flat)) {
            assertThat(space.runs()).isEqualTo(16);
            long units = space.residency().missing();
            assertThat(space.load(0, 2L * unit)).isTrue();
            assertThat(space.residency().missing()).as("the blob's last three").isEqualTo(units - 3);
        }
    }

    @Test
    void whatCannotBeLoadedIsSaidAndTheRestIsThere() throws Exception {
        int unit = Residency.UNIT_BYTES;
        Blob blob = sparse(4L * unit);
        try (FlatImage flat = FlatImage.builder(4096).append(4L * unit, blob, 0).build();
                AddressSpace space = AddressSpace.map(flat)) {
            Linux.truncate(blob.fd(), 2L * unit);
            assertThat(space.load(2L * unit, 4096)).isFalse();
            assertThat(space.load(0, 2L * unit)).isTrue();
            assertThat(space.residency().missing()).isEqualTo(2);
        }
    }

    @Test
    void whereFirstReadsAreNotedOnlyTheyMakeAUnitResident() throws Exception {
        int unit = Residency.UNIT_BYTES;
        try (FlatImage flat = FlatImage.builder(4096)
                        .append(4L * unit, sparse(4L * unit), 0)
                        .build();
                AddressSpace space = AddressSpace.map(flat)) {
            space.note(new FirstTouches());
            assertThat(space.load(0, 4L * unit)).isTrue();
            assertThat(space.residency().missing()).isEqualTo(4);
        }
    }

    @Test
    void closingLeavesNoMappingBehind() throws Exception {
        Path file = Files.write(dir.resolve("blob-of-closing"), new byte[65536]);
        for (int shift : new int[] {0, 512}) {
            FlatImage.Builder builder = FlatImage.builder(512).zeros(shift).append(65536, Blob.open(file), 0);
            try (FlatImage flat = builder.build()) {
                AddressSpace.map(flat).close();
            }
        }
        assertThat(Files.readString(Path.of("/proc/self/maps"))).doesNotContain("blob-of-closing");
    }

    @Test
    void sixteenTebibytesOfHolesCostNoMemoryToLayOut() throws Exception {
        try (FlatImage flat = FlatImage.builder(4096).zeros(16L << 40).build();
                AddressSpace space = AddressSpace.map(flat)) {
            assertThat(space.size()).isEqualTo(16L << 40);
            assertThat(space.runs()).isEqualTo(1);
        }
    }

    private byte[] mapped(AddressSpace space) throws Exception {
        Path out = Files.write(dir.resolve("mapped"), new byte[0]);
        int fd = Linux.open(out.toString(), Linux.O_RDWR);
        try {
            TestImages.writeMapped(space, 0, space.size(), fd, 0);
        } finally {
            Linux.close(fd);
        }
        return Files.readAllBytes(out);
    }

    private byte[] throughSources(FlatImage flat) throws Exception {
        Path out = dir.resolve("sources");
        TestImages.writeAll(flat, out);
        return Files.readAllBytes(out);
    }
}

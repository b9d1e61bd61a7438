// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class FlatImageTest {
    private final Bytes bytes = new Bytes("bytes", new byte[1 << 20]);
    private final Bytes other = new Bytes("other", new byte[1 << 20]);

    @Test
    void neighboursThatContinueEachOtherBecomeOneExtent() {
        FlatImage flat = FlatImage.builder(512)
                .append(1024, bytes, 0)
                .append(512, bytes, 1024)
                .append(512, bytes, 2048)
                .append(512, other, 2560)
                .zeros(512)
                .zerosTo(4096)
                .build();
        assertThat(extents(flat))
                .containsExactly(
                        new Extent(0, 1536, bytes, 0),
                        new Extent(1536, 512, bytes, 2048),
                        new Extent(2048, 512, other, 2560),
                        new Extent(2560, 1536, Zeros.INSTANCE, 0));
        assertThat(flat.sources()).containsExactly(bytes, other, Zeros.INSTANCE);
    }

    @Test
    void extentsOfRandomGeometriesCoverTheDeviceWithoutGapOrOverlap() {
        long seed = System.nanoTime();
        System.out.println("FlatImageTest seed " + seed);
        Random random = new Random(seed);
        for (int round = 0; round < 200; round++) {
            FlatImage.Builder builder = FlatImage.builder(512);
            int count = 1 + random.nextInt(300);
            for (int i = 0; i < count; i++) {
                long length = 512L * (1 + random.nextInt(64));
                switch (random.nextInt(3)) {
                    case 0 -> builder.zeros(length);
                    case 1 -> builder.append(length, bytes, random.nextInt(1 << 19));
                    default -> builder.append(length, other, 512L * random.nextInt(1 << 9));
                }
            }
            FlatImage flat = builder.build();
            long end = 0;
            for (Extent extent : extents(flat)) {
                assertThat(extent.start()).as("seed %d", seed).isEqualTo(end);
                assertThat(extent.length()).as("seed %d", seed).isPositive();
                end = extent.end();
            }
            assertThat(end).as("seed %d", seed).isEqualTo(flat.size());
            for (int probe = 0; probe < 100; probe++) {
                long offset = random.nextLong(flat.size());
                Extent extent = flat.extent(flat.indexOf(offset));
                assertThat(offset).as("seed %d", seed).isBetween(extent.start(), extent.end() - 1);
            }
        }
    }

    @Test
    void anExtentBeyondItsSourceIsADefectOfTheReader() {
        FlatImage.Builder builder = FlatImage.builder(4096);
        assertThatThrownBy(() -> builder.append(1024, bytes, (1 << 20) - 512))
                .isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> builder.append(100, bytes, 0)).isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> builder.append(512, bytes, -1)).isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    void offsetsOutsideTheDeviceHaveNoExtent() {
        FlatImage flat = FlatImage.builder(512).zeros(512).build();
        assertThatThrownBy(() -> flat.indexOf(512)).isInstanceOf(IndexOutOfBoundsException.class);
        assertThatThrownBy(() -> flat.indexOf(-1)).isInstanceOf(IndexOutOfBoundsException.class);
    }

    private static List<Extent> extents(FlatImage flat) {
        List<Extent> extents = new ArrayList<>();
        for (int i = 0; i < flat.extentCount(); i++) {
            extents.add(flat.extent(i));
        }
        return extents;
    }
}

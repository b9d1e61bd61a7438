// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.FlatImage;
import java.util.Random;
import org.junit.jupiter.api.Test;

class AllocationMapTest {
    private static final Bytes DATA = new Bytes("data", new byte[1 << 16]);

    @Test
    void neighboursOfOneKindAreOneRange() {
        FlatImage image = FlatImage.builder(512)
                .append(512, DATA, 0)
                .append(512, DATA, 4096)
                .zeros(1024)
                .append(512, DATA, 0)
                .build();
        AllocationMap map = new AllocationMap(image);
        assertThat(map.indexOf(0)).isZero();
        assertThat(map.end(0)).isEqualTo(1024);
        assertThat(map.isHole(0)).isFalse();
        assertThat(map.isHole(map.indexOf(1024))).isTrue();
        assertThat(map.end(1)).isEqualTo(2048);
        assertThat(map.indexOf(2559)).isEqualTo(2);
        assertThat(map.end(2)).isEqualTo(image.size());
    }

    @Test
    void aDeviceOfNothingButHoleIsOneRange() {
        AllocationMap map =
                new AllocationMap(FlatImage.builder(512).zeros(1L << 40).build());
        assertThat(map.indexOf((1L << 40) - 1)).isZero();
        assertThat(map.isHole(0)).isTrue();
        assertThat(map.end(0)).isEqualTo(1L << 40);
    }

    @Test
    void everySectorHasTheKindOfItsExtent() {
        long seed = System.nanoTime();
        System.out.println("seed " + seed);
        Random random = new Random(seed);
        for (int round = 0; round < 200; round++) {
            FlatImage.Builder b = FlatImage.builder(512);
            StringBuilder kinds = new StringBuilder();
            do {
                int sectors = 1 + random.nextInt(4);
                boolean hole = random.nextBoolean();
                if (hole) {
                    b.zeros(sectors * 512L);
                } else {
                    b.append(sectors * 512L, DATA, random.nextInt(100) * 512L);
                }
                kinds.append((hole ? "h" : "d").repeat(sectors));
            } while (random.nextInt(30) > 0);
            AllocationMap map = new AllocationMap(b.build());
            for (int sector = 0; sector < kinds.length(); sector++) {
                int range = map.indexOf(sector * 512L + random.nextInt(512));
                assertThat(map.isHole(range)).isEqualTo(kinds.charAt(sector) == 'h');
                assertThat(map.end(range)).isGreaterThan(sector * 512L);
                int end = (int) (map.end(range) / 512);
                if (end < kinds.length()) {
                    assertThat(kinds.charAt(end)).isNotEqualTo(kinds.charAt(sector));
                    assertThat(map.indexOf(map.end(range))).isEqualTo(range + 1);
                }
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.uring.Linux;
import java.nio.file.Path;
import java.util.BitSet;
import java.util.Random;
import org.junit.jupiter.api.Test;

class ResidencyTest {
    private static final int UNIT = Residency.UNIT_BYTES;

    @Test
    void coversSaysWhatABitSetSays() {
        long seed = new Random().nextLong();
        System.out.println("seed " + seed);
        Random random = new Random(seed);
        int units = 200;
        Residency residency = new Residency((long) units * UNIT);
        BitSet model = new BitSet();
        for (int round = 0; round < 2000; round++) {
            int unit = random.nextInt(units);
            residency.set(unit);
            model.set(unit);
            long position = random.nextLong((long) units * UNIT);
            long bytes = 1 + random.nextLong(Math.min((long) units * UNIT - position, 5L * UNIT));
            boolean all = model.nextClearBit((int) (position / UNIT)) > (position + bytes - 1) / UNIT;
            assertThat(residency.covers(position, bytes)).isEqualTo(all);
            assertThat(residency.missing()).isEqualTo(units - model.cardinality());
        }
        assertThat(residency.isComplete()).isEqualTo(model.cardinality() == units);
    }

    @Test
    void onlyWhatComesFromFilesHasToBeLookedAt() throws Exception {
        Blob blob = blob(3 * UNIT);
        try (FlatImage image = FlatImage.builder(4096)
                        .zeros(2 * UNIT)
                        .append(3 * UNIT, blob, 0)
                        .zeros(2 * UNIT)
                        .build();
                AddressSpace space = AddressSpace.map(image)) {
            assertThat(space.residency().missing()).isEqualTo(3);
            assertThat(space.residency().isResident(1)).isTrue();
            assertThat(space.residency().isResident(2)).isFalse();
            assertThat(space.residency().isResident(5)).isTrue();
            assertThat(space.unitAddress(2)).isEqualTo(space.base() + 2 * UNIT);
        }
    }

    @Test
    void extentsOfOneSourceThatTheMmuCannotPlaceShareItsUnits() throws Exception {
        Blob blob = blob(2 * UNIT + 4096);
        FlatImage.Builder flat = FlatImage.builder(512);
        for (int i = 20; i-- > 0; ) {
            flat.append(4096, blob, i * 4096L + 512);
        }
        try (FlatImage image = flat.build();
                AddressSpace space = AddressSpace.map(image)) {
            assertThat(space.runs()).isEqualTo(20);
            long spanUnits = 2; // 80 KiB that nothing is read from
            assertThat(space.residency().units()).isEqualTo(spanUnits + 3);
            assertThat(space.residency().missing()).isEqualTo(3);
            long first = space.position(0, space.address(0, 0));
            assertThat(first).isEqualTo(spanUnits * UNIT + 19 * 4096 + 512);
            assertThat(space.unitBytes(spanUnits + 2)).isEqualTo(4096);
            assertThat(space.unitsFollowing(spanUnits + 1, 16)).isEqualTo(2);
            long address = space.address(0, 0);
            assertThat(space.unitAddress(first / UNIT) + first % UNIT).isEqualTo(address);
        }
    }

    private static Blob blob(long bytes) throws Exception {
        int file = Linux.memoryFile("blob");
        Linux.truncate(file, bytes);
        return Blob.adopt(Path.of("blob"), file);
    }
}

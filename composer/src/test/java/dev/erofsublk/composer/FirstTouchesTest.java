// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class FirstTouchesTest {
    private static final int UNIT = FirstTouches.UNIT_BYTES;

    private static List<Long> units(long[] runs) {
        List<Long> units = new ArrayList<>();
        for (long run : runs) {
            for (int i = 0; i < FirstTouches.count(run); i++) {
                units.add(FirstTouches.first(run) + i);
            }
        }
        return units;
    }

    @Test
    void theOrderIsThatOfTheFirstTouchAndNoOther() {
        long seed = new Random().nextLong();
        System.out.println("seed " + seed);
        Random random = new Random(seed);
        FirstTouches touches = new FirstTouches();
        LinkedHashSet<Long> expected = new LinkedHashSet<>();
        for (int i = 0; i < 2000; i++) {
            long offset = random.nextLong(500L * UNIT);
            long bytes = 1 + random.nextInt(3 * UNIT);
            touches.touch(offset, bytes);
            for (long unit = offset / UNIT; unit <= (offset + bytes - 1) / UNIT; unit++) {
                expected.add(unit);
            }
            assertThat(touches.count()).isEqualTo(expected.size());
        }
        assertThat(units(touches.runs())).containsExactlyElementsOf(expected);

        FirstTouches again = new FirstTouches();
        again.addAll(touches.runs());
        again.touch(0, 600L * UNIT);
        assertThat(units(again.runs()))
                .startsWith(expected.toArray(Long[]::new))
                .hasSize(600);
    }

    @Test
    void unitsThatFollowEachOtherAreOneRun() {
        FirstTouches touches = new FirstTouches();
        touches.touch(5L * UNIT, 4096);
        touches.touch(6L * UNIT, 4096);
        touches.touch(5L * UNIT + 4096, 3L * UNIT);
        touches.touch(1, 1);
        assertThat(touches.runs()).containsExactly(FirstTouches.run(5, 4), FirstTouches.run(0, 1));
        touches.touch(100L * UNIT, (FirstTouches.MAX_COUNT + 1L) * UNIT);
        assertThat(touches.runs())
                .endsWith(
                        FirstTouches.run(100, FirstTouches.MAX_COUNT),
                        FirstTouches.run(100 + FirstTouches.MAX_COUNT, 1));
    }

    @Test
    void whatDoesNotFitIsNotNoted() {
        FirstTouches touches = new FirstTouches();
        for (long i = 0; i < FirstTouches.MAX_RUNS + 10; i++) {
            touches.touch(2 * i * UNIT, 1);
        }
        assertThat(touches.runs()).hasSize(FirstTouches.MAX_RUNS);
        touches.touch((1L << 62) + 1, 1); // further than any unit that can be noted
        assertThat(touches.count()).isEqualTo(FirstTouches.MAX_RUNS);
    }
}

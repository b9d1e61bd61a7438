// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Random;
import org.junit.jupiter.api.Test;

class ReadAheadTest {
    private final ReadAhead readAhead = new ReadAhead();

    private void loadsAhead(long from, int count) {
        assertThat(readAhead.count()).isEqualTo(count);
        assertThat(readAhead.from()).isEqualTo(from);
        readAhead.loads(count);
    }

    @Test
    void nothingIsLoadedAheadOfTheFirstReadNorOfOneElsewhere() {
        for (long unit : new long[] {0, 100, 50, 52, 51, 1000}) {
            assertThat(readAhead.expects(unit)).isFalse();
            readAhead.reads(unit, unit);
            assertThat(readAhead.count()).isZero();
        }
    }

    @Test
    void windowsDoubleFromTwiceTheReadAndEachBeginsWhereTheLastEnds() {
        readAhead.reads(10, 11);
        readAhead.reads(12, 13);
        loadsAhead(14, 4);
        readAhead.reads(14, 14); // the mark
        loadsAhead(18, 8);
        readAhead.reads(18, 18);
        loadsAhead(26, 16);
        readAhead.reads(26, 26);
        loadsAhead(42, 16);
    }

    @Test
    void onlyTheFirstUnitOfTheLastWindowIsTheMark() {
        assertThat(readAhead.isMark(0)).isFalse();
        readAhead.reads(0, 0);
        readAhead.reads(1, 1);
        loadsAhead(2, 2);
        assertThat(readAhead.isMark(2)).isTrue();
        readAhead.reads(2, 2);
        loadsAhead(4, 4);
        assertThat(readAhead.isMark(2)).isFalse();
        assertThat(readAhead.isMark(4)).isTrue();
        readAhead.reads(1000, 1000);
        assertThat(readAhead.isMark(4)).as("nobody goes there any more").isFalse();
    }

    @Test
    void whoeverReadsIsNeverMoreThanTwoWindowsBehindWhatIsLoaded() {
        Random random = new Random(7);
        long unit = 0;
        for (int i = 0; i < 10_000; i++) {
            int units = 1 + random.nextInt(9);
            if (random.nextInt(20) == 0) {
                unit = random.nextInt(1 << 20);
            }
            readAhead.reads(unit, unit + units - 1);
            unit += units;
            int count = readAhead.count();
            assertThat(count).isBetween(0, ReadAhead.MOST_UNITS);
            if (count > 0) {
                assertThat(readAhead.from()).isBetween(unit, unit + ReadAhead.MOST_UNITS);
                readAhead.loads(count);
            }
        }
    }
}

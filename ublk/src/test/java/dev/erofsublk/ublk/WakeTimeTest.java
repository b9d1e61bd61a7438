// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

class WakeTimeTest {
    @Test
    void itIsMeasuredOnceAndBounded() throws Exception {
        long nanos = WakeTime.roundTripNanos();
        assertThat(nanos).isBetween(500L, 200_000L); // two system calls and two switches, at the least
        long start = System.nanoTime();
        assertThat(WakeTime.roundTripNanos()).isEqualTo(nanos);
        assertThat(System.nanoTime() - start).as("not measured again").isLessThan(10_000_000);
    }
}

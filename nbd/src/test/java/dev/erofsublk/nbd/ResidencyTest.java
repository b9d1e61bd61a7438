// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

class ResidencyTest {
    private static final long UNIT = Residency.UNIT;

    @Test
    void hasABytesUnitOnlyOnceItWasAdded() {
        Residency residency = new Residency(200 * UNIT);
        residency.add(63 * UNIT, 2 * UNIT); // across a word
        assertThat(residency.has(63 * UNIT, 2 * UNIT)).isTrue();
        assertThat(residency.has(64 * UNIT + 5, 1)).isTrue();
        assertThat(residency.has(63 * UNIT - 1, 1)).isFalse();
        assertThat(residency.has(63 * UNIT - 1, 2)).isFalse();
        assertThat(residency.has(65 * UNIT - 1, 2)).isFalse();
        assertThat(residency.has(0, 200 * UNIT)).isFalse();
    }

    @Test
    void hasTheLastUnitOfADeviceThatEndsWithinIt() {
        Residency residency = new Residency(3 * UNIT + 512);
        residency.add(3 * UNIT, 512);
        assertThat(residency.has(3 * UNIT, 512)).isTrue();
        assertThat(residency.has(3 * UNIT - 1, 512)).isFalse();
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

class DamageLogTest {
    private static final long SECOND = 1_000_000_000;

    private final List<String> lines = new ArrayList<>();
    private final DamageLog log = new DamageLog(lines::add);

    @Test
    void theSameDamageIsSaidOnceAMinute() {
        long start = Long.MAX_VALUE - 30 * SECOND; // the clock may pass its end
        for (int second = 0; second < 130; second++) {
            log.say("unit 17 is damaged", start + second * SECOND);
        }
        assertThat(lines)
                .containsExactly(
                        "unit 17 is damaged",
                        "unit 17 is damaged (60 times since it was last said)",
                        "unit 17 is damaged (60 times since it was last said)");
    }

    @Test
    void otherDamageIsSaidAtOnce() {
        log.say("unit 17 is damaged", 0);
        log.say("unit 18 is damaged", 1);
        log.say("unit 17 is damaged", 2);
        assertThat(lines).containsExactly("unit 17 is damaged", "unit 18 is damaged");
    }

    @Test
    void whatIsSaidAfterALongTimeIsNotCounted() {
        log.say("unit 17 is damaged", 0);
        log.say("unit 17 is damaged", 100 * SECOND);
        assertThat(lines).containsExactly("unit 17 is damaged", "unit 17 is damaged");
    }

    @Test
    void noMoreThanSomeAreRemembered() {
        for (int i = 0; i < 5000; i++) {
            log.say("unit " + i, 0);
        }
        log.say("unit 4999", 0);
        assertThat(lines).hasSize(5000);
        log.say("unit 0", 0);
        assertThat(lines).hasSize(5001);
    }
}

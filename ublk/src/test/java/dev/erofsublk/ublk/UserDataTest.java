// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class UserDataTest {
    @ParameterizedTest
    @ValueSource(
            ints = {UserData.COMMAND, UserData.POPULATED, UserData.POPULATED_EXACTLY, UserData.AHEAD, UserData.INBOX})
    void kindAndTagComeBack(int kind) {
        long userData = UserData.of(kind, UblkCmd.MAX_QUEUE_DEPTH - 1);
        assertThat(UserData.kind(userData)).isEqualTo(kind);
        assertThat(UserData.tag(userData)).isEqualTo(UblkCmd.MAX_QUEUE_DEPTH - 1);
    }

    @Test
    void aCommandIsItsTagAndNothingElseHasAnEmptyUpperHalf() {
        assertThat(UserData.of(UserData.COMMAND, 7)).isEqualTo(7);
        assertThat(UserData.of(UserData.POPULATED, 7) >>> Integer.SIZE).isNotZero();
        assertThat(UserData.ahead(0, 1) >>> Integer.SIZE).isNotZero();
    }

    @Test
    void unitsAheadComeBackWithTheirCount() {
        long unit = (1L << 47) + 12345; // of 64 KiB: beyond what 2^63 bytes have
        long userData = UserData.ahead(unit, 255);
        assertThat(UserData.kind(userData)).isEqualTo(UserData.AHEAD);
        assertThat(UserData.unit(userData)).isEqualTo(unit);
        assertThat(UserData.count(userData)).isEqualTo(255);
    }

    @Test
    void aReadComesBackWithItsTagAndItsPlaceInTheRequest() {
        long userData = UserData.read(UblkCmd.MAX_QUEUE_DEPTH - 1, (1 << 24) - 1);
        assertThat(UserData.kind(userData)).isEqualTo(UserData.READ);
        assertThat(UserData.tag(userData)).isEqualTo(UblkCmd.MAX_QUEUE_DEPTH - 1);
        assertThat(UserData.sectorsBefore(userData)).isEqualTo((1 << 24) - 1);
        assertThat(UserData.read(0, 0) >>> Integer.SIZE).isNotZero();
    }
}

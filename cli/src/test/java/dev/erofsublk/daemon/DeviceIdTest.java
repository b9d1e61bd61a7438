// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.junit.jupiter.api.Test;

class DeviceIdTest {
    @Test
    void aNumberAloneIsThatOfUblk() {
        for (String text : List.of("3", "ublkb3", "/dev/ublkb3")) {
            assertThat(DeviceId.parse(text)).contains(DeviceId.ublk(3));
        }
        for (String text : List.of("nbd3", "/dev/nbd3")) {
            assertThat(DeviceId.parse(text)).contains(DeviceId.nbd(3));
        }
        assertThat(DeviceId.nbd(1048575).path()).isEqualTo("/dev/nbd1048575");
    }

    @Test
    void nothingElseIsADevice() {
        for (String text :
                List.of("", "-1", "/dev/3", "nbd", "nbd3p1", "sda", "ublkc3", "1048576", "99999999", "nbd 3")) {
            assertThat(DeviceId.parse(text)).as(text).isEmpty();
        }
    }
}

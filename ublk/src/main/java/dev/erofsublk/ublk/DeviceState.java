// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

/** The {@code UBLK_S_DEV_*} states, by their numbers. */
public enum DeviceState {
    DEAD,
    LIVE,
    QUIESCED,
    FAIL_IO,
    UNKNOWN;

    static DeviceState of(int number) {
        return switch (number) {
            case 0 -> DEAD;
            case 1 -> LIVE;
            case 2 -> QUIESCED;
            case 3 -> FAIL_IO;
            default -> UNKNOWN;
        };
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import java.time.Duration;

/**
 * What strangers may take of a server.
 *
 * @param connections how many clients at a time; one more is closed as soon as it is accepted (CVE-2024-7409 made
 *     other servers cap them)
 * @param handshake how long a client may take from connecting to its first request
 * @param options how many options a client may send before that
 * @param optionBytes bytes that the data of one option may have; more is refused, and much more drops the connection
 */
public record Limits(int connections, Duration handshake, int options, int optionBytes) {
    /** 100 connections, 10 seconds, 32 options of at most 32 KiB. */
    public static final Limits DEFAULT = new Limits(100, Duration.ofSeconds(10), 32, 32 << 10);

    public Limits {
        if (connections < 1 || options < 1 || optionBytes < 2 * Nbd.MAX_STRING || optionBytes > Inbox.CAPACITY) {
            throw new IllegalArgumentException("limits out of range");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import java.io.IOException;

/** This machine, or this user, has no ublk; the message says what is missing and what to do about it. */
public final class UblkUnavailableException extends IOException {
    UblkUnavailableException(String message) {
        super(message);
    }
}

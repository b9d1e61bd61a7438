// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import java.io.IOException;

/** A device was to have a data path that it cannot have; the message says why, and what instead. */
public final class DataPathException extends IOException {
    private static final long serialVersionUID = 1;

    DataPathException(String message) {
        super(message);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import java.io.IOException;

/** Something that the daemon cannot or will not do; the message is the whole sentence. */
public final class DaemonException extends IOException {
    public DaemonException(String message) {
        super(message);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import java.io.IOException;

/** The reason why a connection is given up: the client broke the protocol, ran out of time, or went away. */
final class Disconnect extends IOException {
    private final boolean noteworthy;

    private Disconnect(String reason, boolean noteworthy) {
        super(reason);
        this.noteworthy = noteworthy;
    }

    /** For what an administrator should read about. */
    static Disconnect because(String reason) {
        return new Disconnect(reason, true);
    }

    /** For a client that just closed its end. */
    static Disconnect byPeer() {
        return new Disconnect("closed by the client", false);
    }

    /** Whether the log should have it. */
    boolean noteworthy() {
        return noteworthy;
    }
}

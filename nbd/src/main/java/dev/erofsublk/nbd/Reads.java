// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import java.io.IOException;

/** How the replies to reads get their data. Used by one thread. */
interface Reads {
    /**
     * Makes sure that these bytes can be had, as far as that takes long, and starts it if it has not been done.
     *
     * @return false if the request should wait until others have been answered; {@link #load} then waits
     */
    boolean isReady(long offset, int length);

    /** Waits for what {@link #isReady} said is not; false if the bytes cannot be had. */
    boolean load(long offset, int length);

    /** Queues a simple reply. */
    void simple(long cookie, long offset, int length) throws IOException;

    /** Queues a structured reply; {@code whole} is the client's wish for one chunk. */
    void structured(long cookie, boolean whole, long offset, int length) throws IOException;
}

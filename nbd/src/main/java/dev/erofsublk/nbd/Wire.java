// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import java.io.IOException;
import java.lang.foreign.MemorySegment;

/** Bytes to and from one client. Used by the one thread that serves it. */
interface Wire {
    /**
     * Waits for bytes.
     *
     * @param length the most to read
     * @return how many were read, 0 at the end of the stream
     */
    int read(MemorySegment target, long at, int length) throws IOException;

    /** Sends all of {@code bytes}, which Java may read. */
    void write(MemorySegment bytes) throws IOException;

    /**
     * Sends messages as {@code sendmmsg} does.
     *
     * @param messages an array of {@code struct mmsghdr}
     * @return how many were sent, the last perhaps in part, which its {@code msg_len} tells; {@code -EFAULT} if a bad
     *     address kept the first from being sent
     * @throws IOException if the connection is broken
     */
    int send(MemorySegment messages, int count) throws IOException;

    /** Whether a message of up to 35 KiB is sent as a whole or, with a bad address in it, not at all. */
    boolean isAtomic();

    /** Says goodbye, where the wire has words for it. */
    default void finish() throws IOException {}
}

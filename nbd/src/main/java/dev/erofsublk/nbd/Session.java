// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

/**
 * What a handshake came to.
 *
 * @param export what the client chose
 * @param structured whether replies to reads are structured
 * @param allocation whether the client selected {@code base:allocation}
 */
record Session(Export export, boolean structured, boolean allocation) {
    /** The id that {@code base:allocation} has in every session. */
    static final int ALLOCATION_CONTEXT = 1;

    /** What the kernel's driver expects: simple replies, and nothing negotiated. */
    static Session plain(Export export) {
        return new Session(export, false, false);
    }

    /** The transmission flags of an export. */
    static int transmissionFlags(boolean structured) {
        return Nbd.FLAG_HAS_FLAGS
                | Nbd.FLAG_READ_ONLY
                | Nbd.FLAG_SEND_FLUSH
                | Nbd.FLAG_CAN_MULTI_CONN
                | Nbd.FLAG_SEND_CACHE
                | (structured ? Nbd.FLAG_SEND_DF : 0);
    }
}

// SPDX-License-Identifier: Apache-2.0
/**
 * An {@link dev.erofsublk.composer.AddressSpace} over NBD, to any client ({@link dev.erofsublk.nbd.NbdServer}) and to
 * the kernel's own driver ({@link dev.erofsublk.nbd.NbdDevice}).
 *
 * <p>As with ublk, the kernel copies: a reply is a message of a header and of addresses in the mapping, and
 * {@code sendmmsg} takes the bytes from there. One platform thread serves one connection with blocking calls: it reads
 * as many requests as are there, and sends all their replies with one call.
 *
 * <p>Numbers and layouts are those of the NBD specification (NetworkBlockDevice/nbd, doc/proto.md) and of Linux 7.2.
 */
@NullMarked
package dev.erofsublk.nbd;

import org.jspecify.annotations.NullMarked;

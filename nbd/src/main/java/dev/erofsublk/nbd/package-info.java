// SPDX-License-Identifier: Apache-2.0
/**
 * An {@link dev.erofsublk.composer.AddressSpace} over NBD, to any client ({@link dev.erofsublk.nbd.NbdServer}) and to
 * the kernel's own driver ({@link dev.erofsublk.nbd.NbdDevice}).
 *
 * <p>As with ublk, the kernel copies: a reply is a message of a header and of addresses in the mapping, and
 * {@code sendmmsg} takes the bytes from there. One platform thread serves one connection with blocking calls: it reads
 * as many requests as are there, and sends all their replies with one call. The alternatives were tried behind {@code Wire}
 * with fio's nbd engine (random reads of 4 KiB, queue depth 32 and 1, on a busy machine, hence the server's CPU time for each
 * request): this, in its simplest form, 1.5 and 4.2 µs; NIO on platform threads 1.6 and 4.0; NIO on virtual threads 2.3 and
 * 18; an io_uring that submits the reply together with the next receive 1.9 and 6.4.
 *
 * <p>Numbers and layouts are those of the NBD specification (NetworkBlockDevice/nbd, doc/proto.md) and of Linux 7.2.
 */
@NullMarked
package dev.erofsublk.nbd;

import org.jspecify.annotations.NullMarked;

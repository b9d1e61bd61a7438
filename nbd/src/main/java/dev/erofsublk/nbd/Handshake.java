// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import org.jspecify.annotations.Nullable;

/**
 * The fixed newstyle handshake of one connection: options until one of them chooses an export.
 *
 * <p>What the client sends is bounded by {@link Limits} before anything is done with it, and every length inside an
 * option is checked against what the option has left (CVE-2022-26495, CVE-2022-26496, CVE-2017-15118, CVE-2017-15119).
 *
 * {@snippet lang="c" :
 * struct option {                // from the client, big-endian
 *     uint64_t magic;            // "IHAVEOPT"
 *     uint32_t option;
 *     uint32_t length;
 *     uint8_t  data[length];
 * };
 * struct option_reply {
 *     uint64_t magic;            // 0x3e889045565a9
 *     uint32_t option;
 *     uint32_t type;
 *     uint32_t length;
 *     uint8_t  data[length];
 * };
 * }
 */
final class Handshake {
    private static final int OPTION_BYTES = 16;
    private static final int REPLY_BYTES = 20;
    private static final int LARGEST_REPLY = REPLY_BYTES + 4 + 2 * Nbd.MAX_STRING;
    /** Beyond this an option is not even skipped. */
    private static final long MAX_SKIPPED = 1 << 20;

    private static final String ALLOCATION = "base:allocation";

    private final Exports exports;
    private final Limits limits;
    private final @Nullable Upgrade upgrade;
    private final Inbox in;
    private final MemorySegment reply;
    private Wire wire;
    private boolean secure;

    // What has been negotiated; STARTTLS starts over
    private boolean fixedNewstyle;
    private boolean noZeroes;
    private boolean structured;
    private @Nullable String allocationOf;

    // The option being looked at
    private int option;
    private long at;
    private int left;

    /** Turns the connection into one over TLS. */
    interface Upgrade {
        /** Whether nothing else may be asked for before. */
        boolean isRequired();

        /** Performs the TLS handshake. */
        Wire start() throws IOException;
    }

    Handshake(Arena arena, Wire wire, Inbox in, Exports exports, Limits limits, @Nullable Upgrade upgrade) {
        this.wire = wire;
        this.in = in;
        this.exports = exports;
        this.limits = limits;
        this.upgrade = upgrade;
        reply = arena.allocate(LARGEST_REPLY, 8);
    }

    /** The wire to go on with: the one given, or the one over TLS. */
    Wire wire() {
        return wire;
    }

    /** Whether {@link #wire} goes over TLS. */
    boolean isSecure() {
        return secure;
    }

    /**
     * Talks until the client has chosen.
     *
     * @return what it chose, or null if it said goodbye
     * @throws Disconnect if it broke the protocol
     */
    @Nullable
    Session negotiate() throws IOException {
        reply.set(Nbd.LONG, 0, Nbd.MAGIC);
        reply.set(Nbd.LONG, 8, Nbd.IHAVEOPT);
        reply.set(Nbd.SHORT, 16, (short) (Nbd.FLAG_FIXED_NEWSTYLE | Nbd.FLAG_NO_ZEROES));
        wire.write(reply.asSlice(0, 18));
        in.require(4);
        int flags = in.buffer().get(Nbd.INT, in.position());
        in.skip(4);
        if ((flags & ~(Nbd.FLAG_FIXED_NEWSTYLE | Nbd.FLAG_NO_ZEROES)) != 0) {
            throw Disconnect.because("unknown client flags 0x" + Integer.toHexString(flags));
        }
        fixedNewstyle = (flags & Nbd.FLAG_FIXED_NEWSTYLE) != 0;
        noZeroes = (flags & Nbd.FLAG_NO_ZEROES) != 0;
        for (int i = 0; i < limits.options(); i++) {
            if (!nextOption()) {
                continue;
            }
            if (option == Nbd.OPT_ABORT) {
                acknowledge();
                return null;
            }
            Session session = handle();
            in.skip((int) (at + left - in.position()));
            if (session != null) {
                return session;
            }
        }
        throw Disconnect.because("more than " + limits.options() + " options");
    }

    /** Reads an option with its data; false if it was too long and has been refused. */
    private boolean nextOption() throws IOException {
        in.require(OPTION_BYTES);
        MemorySegment buffer = in.buffer();
        long header = in.position();
        if (buffer.get(Nbd.LONG, header) != Nbd.IHAVEOPT) {
            throw Disconnect.because("an option with a wrong magic number");
        }
        option = buffer.get(Nbd.INT, header + 8);
        long length = Integer.toUnsignedLong(buffer.get(Nbd.INT, header + 12));
        in.skip(OPTION_BYTES);
        if (!fixedNewstyle && option != Nbd.OPT_EXPORT_NAME) {
            throw Disconnect.because("option " + Integer.toUnsignedString(option) + " without fixed newstyle");
        }
        if (length > limits.optionBytes()) {
            if (length > MAX_SKIPPED || option == Nbd.OPT_EXPORT_NAME) {
                throw Disconnect.because("an option of " + length + " bytes");
            }
            in.discard(length);
            refuse(Nbd.REP_ERR_TOO_BIG, "the option is too long");
            return false;
        }
        in.require((int) length);
        at = in.position();
        left = (int) length;
        return true;
    }

    private @Nullable Session handle() throws IOException {
        if (upgrade != null && upgrade.isRequired() && !secure && option != Nbd.OPT_STARTTLS) {
            if (option == Nbd.OPT_EXPORT_NAME) {
                throw Disconnect.because("an export chosen before STARTTLS");
            }
            refuse(Nbd.REP_ERR_TLS_REQD, "this server wants STARTTLS first");
            return null;
        }
        switch (option) {
            case Nbd.OPT_EXPORT_NAME -> {
                return exportName();
            }
            case Nbd.OPT_GO, Nbd.OPT_INFO -> {
                return info();
            }
            case Nbd.OPT_LIST -> list();
            case Nbd.OPT_STARTTLS -> startTls();
            case Nbd.OPT_STRUCTURED_REPLY -> {
                if (left != 0) {
                    refuse(Nbd.REP_ERR_INVALID, "this option has no data");
                } else {
                    structured = true;
                    acknowledge();
                }
            }
            case Nbd.OPT_LIST_META_CONTEXT, Nbd.OPT_SET_META_CONTEXT -> metaContext();
            default -> refuse(Nbd.REP_ERR_UNSUP, "unknown option");
        }
        return null;
    }

    private Session exportName() throws IOException {
        if (left > Nbd.MAX_STRING) {
            throw Disconnect.because("an export name of " + left + " bytes");
        }
        Export export = exports.find(string(left));
        if (export == null) {
            throw Disconnect.because("an unknown export");
        }
        reply.set(Nbd.LONG, 0, export.size());
        reply.set(Nbd.SHORT, 8, (short) Session.transmissionFlags(structured));
        reply.asSlice(10, 124).fill((byte) 0);
        wire.write(reply.asSlice(0, noZeroes ? 10 : 134));
        return session(export);
    }

    private Session session(Export export) {
        return new Session(export, structured, structured && export.name().equals(allocationOf));
    }

    private @Nullable Session info() throws IOException {
        Export export = namedExport();
        if (export == null) {
            return null;
        }
        int wanted = left < 2 ? -1 : Short.toUnsignedInt(in.buffer().get(Nbd.SHORT, take(2)));
        if (wanted < 0 || left != 2 * wanted) {
            refuse(Nbd.REP_ERR_INVALID, "the list of information types does not fit the option");
            return null;
        }
        reply.set(Nbd.SHORT, REPLY_BYTES, (short) Nbd.INFO_EXPORT);
        reply.set(Nbd.LONG, REPLY_BYTES + 2, export.size());
        reply.set(Nbd.SHORT, REPLY_BYTES + 10, (short) Session.transmissionFlags(structured));
        send(Nbd.REP_INFO, 12);
        int answered = 1 << Nbd.INFO_EXPORT; // each type once, however often it is asked for
        for (int i = 0; i < wanted; i++) {
            int type = Short.toUnsignedInt(in.buffer().get(Nbd.SHORT, take(2)));
            if (type <= Nbd.INFO_BLOCK_SIZE && (answered & 1 << type) == 0) {
                answered |= 1 << type;
                information(export, type);
            }
        }
        acknowledge();
        return option == Nbd.OPT_GO ? session(export) : null;
    }

    private void information(Export export, int type) throws IOException {
        reply.set(Nbd.SHORT, REPLY_BYTES, (short) type);
        switch (type) {
            case Nbd.INFO_NAME -> send(Nbd.REP_INFO, 2 + put(2, export.name()));
            case Nbd.INFO_DESCRIPTION -> {
                if (!export.description().isEmpty()) {
                    send(Nbd.REP_INFO, 2 + put(2, export.description()));
                }
            }
            case Nbd.INFO_BLOCK_SIZE -> {
                reply.set(Nbd.INT, REPLY_BYTES + 2, 1);
                reply.set(Nbd.INT, REPLY_BYTES + 6, 4096);
                reply.set(Nbd.INT, REPLY_BYTES + 10, Nbd.MAX_PAYLOAD);
                send(Nbd.REP_INFO, 14);
            }
            default -> throw new AssertionError(type);
        }
    }

    private void list() throws IOException {
        if (left != 0) {
            refuse(Nbd.REP_ERR_INVALID, "this option has no data");
            return;
        }
        for (Export export : exports.all()) {
            int name = put(4, export.name());
            reply.set(Nbd.INT, REPLY_BYTES, name);
            send(Nbd.REP_SERVER, 4 + name + put(4 + name, export.description()));
        }
        acknowledge();
    }

    private void startTls() throws IOException {
        if (left != 0) {
            refuse(Nbd.REP_ERR_INVALID, "this option has no data");
        } else if (secure) {
            refuse(Nbd.REP_ERR_INVALID, "TLS is on already");
        } else if (upgrade == null) {
            refuse(Nbd.REP_ERR_UNSUP, "this server has no certificate");
        } else {
            acknowledge();
            structured = false; // CVE-2021-3716: what was said in the clear may have been said by anyone
            allocationOf = null;
            in.rejectPending();
            wire = upgrade.start();
            in.replaceWire(wire);
            secure = true;
        }
    }

    private void metaContext() throws IOException {
        boolean set = option == Nbd.OPT_SET_META_CONTEXT;
        if (set) {
            allocationOf = null;
        }
        if (!structured) {
            refuse(Nbd.REP_ERR_INVALID, "metadata contexts need structured replies");
            return;
        }
        Export export = namedExport();
        if (export == null) {
            return;
        }
        long queries = left < 4 ? -1 : Integer.toUnsignedLong(in.buffer().get(Nbd.INT, take(4)));
        boolean found = queries == 0 && !set;
        for (long i = 0; i < queries; i++) { // ends with the option's data: each query takes 4 bytes of it
            long length = left < 4 ? -1 : Integer.toUnsignedLong(in.buffer().get(Nbd.INT, take(4)));
            if (length < 0 || length > left) {
                queries = -1;
                break;
            }
            String query = string((int) length);
            found |= query.equals(ALLOCATION) || (!set && query.equals("base:"));
        }
        if (queries < 0 || left != 0) {
            refuse(Nbd.REP_ERR_INVALID, "the queries do not fit the option");
            return;
        }
        if (found) {
            reply.set(Nbd.INT, REPLY_BYTES, set ? Session.ALLOCATION_CONTEXT : 0);
            send(Nbd.REP_META_CONTEXT, 4 + put(4, ALLOCATION));
            if (set) {
                allocationOf = export.name();
            }
        }
        acknowledge();
    }

    /** The export whose name comes next, with its length before it; null after having answered that there is none. */
    private @Nullable Export namedExport() throws IOException {
        long length = left < 4 ? -1 : Integer.toUnsignedLong(in.buffer().get(Nbd.INT, take(4)));
        if (length < 0 || length > left || length > Nbd.MAX_STRING) {
            refuse(Nbd.REP_ERR_INVALID, "the export name does not fit the option");
            return null;
        }
        Export export = exports.find(string((int) length));
        if (export == null) {
            refuse(Nbd.REP_ERR_UNKNOWN, "no such export");
        }
        return export;
    }

    /** Passes over the next {@code bytes} of the option, which has them; returns where they lie. */
    private long take(int bytes) {
        long taken = at;
        at += bytes;
        left -= bytes;
        return taken;
    }

    private String string(int bytes) {
        byte[] text = in.buffer().asSlice(take(bytes), bytes).toArray(JAVA_BYTE);
        return new String(text, StandardCharsets.UTF_8);
    }

    /** Writes {@code text} into the reply's data; returns its bytes. */
    private int put(int offset, String text) {
        byte[] utf8 = Export.utf8(text);
        MemorySegment.copy(utf8, 0, reply, JAVA_BYTE, (long) REPLY_BYTES + offset, utf8.length);
        return utf8.length;
    }

    private void acknowledge() throws IOException {
        send(Nbd.REP_ACK, 0);
    }

    private void refuse(int error, String why) throws IOException {
        send(error, put(0, why));
    }

    private void send(int type, int length) throws IOException {
        reply.set(Nbd.LONG, 0, Nbd.OPTION_REPLY_MAGIC);
        reply.set(Nbd.INT, 8, option);
        reply.set(Nbd.INT, 12, type);
        reply.set(Nbd.INT, 16, length);
        wire.write(reply.asSlice(0, REPLY_BYTES + length));
    }
}

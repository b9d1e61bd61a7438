// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Optional;
import java.util.UUID;

/** GUIDs as Microsoft stores them: the first three groups little-endian, the rest byte by byte. */
final class Guid {
    static final int BYTES = 16;
    static final UUID ZERO = new UUID(0, 0);

    private Guid() {}

    /** The GUID at {@code at}; {@code bytes} is little-endian. */
    static UUID at(ByteBuffer bytes, int at) {
        long high = (bytes.getInt(at) & 0xffffffffL) << 32
                | (bytes.getShort(at + 4) & 0xffffL) << 16
                | (bytes.getShort(at + 6) & 0xffffL);
        return new UUID(high, bytes.duplicate().order(ByteOrder.BIG_ENDIAN).getLong(at + 8));
    }

    /** A GUID in braces, as a parent locator spells it; empty if {@code text} is none. */
    static Optional<UUID> parse(String text) {
        if (!text.matches("\\{\\p{XDigit}{8}(-\\p{XDigit}{4}){3}-\\p{XDigit}{12}}")) {
            return Optional.empty();
        }
        return Optional.of(UUID.fromString(text.substring(1, text.length() - 1)));
    }
}

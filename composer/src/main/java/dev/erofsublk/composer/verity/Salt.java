// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.verity;

import java.util.HexFormat;
import java.util.Locale;

/**
 * What a dm-verity tree hashes before each block: 0 to 256 bytes (the most that {@code veritysetup} takes).
 *
 * @param digits the bytes as hexadecimal digits in small letters; empty for no salt
 */
public record Salt(String digits) {
    /** No salt. */
    public static final Salt NONE = new Salt("");

    private static final int MAX_DIGITS = 512;

    /** @throws IllegalArgumentException if these are not an even number of up to 512 hexadecimal digits */
    public Salt {
        if (digits.length() > MAX_DIGITS || digits.length() % 2 != 0 || !digits.matches("[0-9a-fA-F]*")) {
            throw new IllegalArgumentException("not an even number of up to 512 hexadecimal digits");
        }
        digits = digits.toLowerCase(Locale.ROOT);
    }

    /** The salt that {@code veritysetup} writes as {@code text}, where {@code -} is none. */
    public static Salt parse(String text) {
        return text.equals("-") ? NONE : new Salt(text);
    }

    byte[] bytes() {
        return HexFormat.of().parseHex(digits);
    }

    /** As {@code veritysetup} writes it. */
    @Override
    public String toString() {
        return digits.isEmpty() ? "-" : digits;
    }
}

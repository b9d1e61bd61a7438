// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.trace;

import dev.erofsublk.composer.FirstTouches;
import dev.erofsublk.composer.ImageException;
import java.nio.charset.StandardCharsets;

/** The lines of an {@link AccessTrace}, one after the other. */
final class TraceLines {
    private static final int SHOWN = 60;

    private final String file;
    private final byte[] bytes;
    private final int end;
    private int at;
    private int number;

    /** @param end the offset behind the last line */
    TraceLines(String file, byte[] bytes, int end) {
        this.file = file;
        this.bytes = bytes;
        this.end = end;
    }

    private String next() throws ImageException {
        number++;
        int from = at;
        while (at < end && bytes[at] != '\n') {
            at++;
        }
        if (at == end) {
            throw new ImageException(file, "line " + number, "cut off", "a line feed behind it");
        }
        return new String(bytes, from, at++ - from, StandardCharsets.ISO_8859_1);
    }

    private ImageException wrong(String field, String found, String expected) {
        return new ImageException(
                file, field, "\"" + found.substring(0, Math.min(found.length(), SHOWN)) + "\"", expected);
    }

    /** The next line has to be {@code prefix} and then {@code value}. */
    void expect(String field, String prefix, String value) throws ImageException {
        String line = next();
        if (!line.startsWith(prefix)) {
            throw wrong("line " + number, line, "\"" + prefix + value + "\"");
        }
        if (!line.substring(prefix.length()).equals(value)) {
            throw wrong(
                    field,
                    line.substring(prefix.length()),
                    prefix.isEmpty() ? "\"" + value + "\"" : value + ", that of the image");
        }
    }

    /** The next line is {@code prefix} and a number of at most {@code most}. */
    long number(String field, String prefix, long most) throws ImageException {
        String line = next();
        long value = line.startsWith(prefix) ? parse(line, prefix.length(), line.length()) : -1;
        if (value < 0 || value > most) {
            throw wrong(field, line, prefix + "and a number up to " + most);
        }
        return value;
    }

    /** The next line is a run of units, which are below {@code units}. */
    long run(long units) throws ImageException {
        String line = next();
        int blank = line.indexOf(' ');
        long first = parse(line, 0, blank < 0 ? line.length() : blank);
        long count = blank < 0 ? 1 : parse(line, blank + 1, line.length());
        if (first < 0 || count < 1 || count > FirstTouches.MAX_COUNT || first >= units || count > units - first) {
            throw wrong("line " + number, line, "a unit and perhaps a count, within the image's " + units + " units");
        }
        return FirstTouches.run(first, (int) count);
    }

    /** There is no further line. */
    void expectEnd() throws ImageException {
        if (at != end) {
            throw wrong("line " + (number + 1), next(), "no more than the runs that were announced");
        }
    }

    /** A decimal number of at most 15 digits without a leading zero; -1 if it is none. */
    private static long parse(String line, int from, int to) {
        if (to - from < 1 || to - from > 15 || (line.charAt(from) == '0' && to - from > 1)) {
            return -1;
        }
        long value = 0;
        for (int i = from; i < to; i++) {
            int digit = line.charAt(i) - '0';
            if (digit < 0 || digit > 9) {
                return -1;
            }
            value = value * 10 + digit;
        }
        return value;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import java.io.IOException;
import java.util.Objects;

/**
 * An image that is refused, because serving it would give wrong bytes or none.
 *
 * <p>The only exception that leaves a format reader for the content of a file. Its message is one line that names the
 * file, the field, the value found and what was expected.
 */
public final class ImageException extends IOException {
    private final String file;
    private final String field;

    /**
     * @param file the file that holds the value, as the user named it
     * @param field the field, in the words of the format, for example {@code superblock.magic}
     * @param found the value found
     * @param expected what would have been accepted, as a phrase after "expected"
     */
    public ImageException(String file, String field, Object found, String expected) {
        super(oneLine(file + ": " + field + " is " + found + ", expected " + expected));
        this.file = file;
        this.field = field;
    }

    /**
     * A refusal that is in words already.
     *
     * @param problem names file, field, value and expectation
     */
    public ImageException(String file, String problem) {
        super(oneLine(problem));
        this.file = file;
        field = "";
    }

    /** Names come from untrusted headers and file systems: a line break in one must not forge a second line. */
    private static String oneLine(String text) {
        return text.codePoints()
                .collect(
                        StringBuilder::new,
                        (line, c) -> line.appendCodePoint(Character.isISOControl(c) ? '?' : c),
                        StringBuilder::append)
                .toString();
    }

    /** The file whose content is refused. */
    public String file() {
        return file;
    }

    /** The field that is refused; empty if only the message names it. */
    public String field() {
        return field;
    }

    /** One line; never null. */
    @Override
    public String getMessage() {
        return Objects.requireNonNull(super.getMessage());
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

/**
 * What a format reader yields: the flat device, and what a person wants to know about where it comes from.
 *
 * <p>Closing it closes the files.
 */
public interface Image extends AutoCloseable {
    /** The format's name in small letters: {@code erofs}, {@code rafs}, {@code raw}, {@code vmdk}, {@code vhdx}, {@code vhd}. */
    String format();

    /** The device. */
    FlatImage flat();

    /** Adds the facts of this format to what {@code inspect} shows. */
    void describe(Description description);

    @Override
    default void close() {
        flat().close();
    }
}

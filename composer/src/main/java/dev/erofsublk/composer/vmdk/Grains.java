// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.ImageException;

/** Takes the grains of an extent in ascending order, each exactly once. */
interface Grains {
    /** The next {@code count} grains are not stored here: they are the parent's. */
    void absent(long count) throws ImageException;

    /** The next {@code count} grains are zeros, whatever the parent has. */
    void zero(long count) throws ImageException;

    /** The next grain is stored at {@code sector} of the file. */
    void stored(long sector) throws ImageException;
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.ImageException;

/** Refusals of one file, so that a list of checks reads as a table. */
record Checks(String file) {
    void that(boolean holds, String field, Object found, String expected) throws ImageException {
        if (!holds) {
            throw new ImageException(file, field, found, expected);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import java.io.IOException;
import java.lang.foreign.MemorySegment;

/** Turns encoded bytes into the bytes of one unit of a decoded source. */
@FunctionalInterface
interface UnitDecoder {
    /**
     * Decodes one unit; called by many threads at once, each with another unit.
     *
     * @param unit its number, from 0
     * @param target native memory of exactly one unit, zeroed; filled from its start
     * @throws IOException naming file and unit if the encoded bytes are damaged or missing
     */
    void decode(long unit, MemorySegment target) throws IOException;
}

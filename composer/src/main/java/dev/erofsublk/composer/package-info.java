// SPDX-License-Identifier: Apache-2.0
/**
 * From image files to one flat device: format readers say where every byte of the device comes from
 * ({@link dev.erofsublk.composer.FlatImage}), and {@link dev.erofsublk.composer.AddressSpace} lays that out in memory.
 */
@NullMarked
package dev.erofsublk.composer;

import org.jspecify.annotations.NullMarked;

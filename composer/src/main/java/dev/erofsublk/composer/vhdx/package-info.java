// SPDX-License-Identifier: Apache-2.0
/**
 * Reads VHDX images: dynamic, fixed and differencing, with a log that is replayed in memory. The format is that of
 * MS-VHDX; facts/vmdisk.md §2 has what was checked of it.
 */
@NullMarked
package dev.erofsublk.composer.vhdx;

import org.jspecify.annotations.NullMarked;

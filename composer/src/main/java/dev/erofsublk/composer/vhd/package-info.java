// SPDX-License-Identifier: Apache-2.0
/**
 * Reads VHD images, as Virtual PC, Hyper-V, QEMU and Azure know them (fixed, dynamic, differencing, split), and writes
 * fixed ones. The format is that of Microsoft's Virtual Hard Disk Image Format Specification 1.0; facts/vmdisk.md §2 has
 * what was checked of it. All numbers in the file are big-endian.
 */
@NullMarked
package dev.erofsublk.composer.vhd;

import org.jspecify.annotations.NullMarked;

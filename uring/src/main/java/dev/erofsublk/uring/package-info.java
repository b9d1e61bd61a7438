// SPDX-License-Identifier: Apache-2.0
/**
 * Linux system calls and io_uring, driven from Java through the Foreign Function and Memory API (JEP 454).
 *
 * <p>This is the only package that links native functions. It knows nothing of block devices.
 */
@NullMarked
package dev.erofsublk.uring;

import org.jspecify.annotations.NullMarked;

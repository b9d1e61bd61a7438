// SPDX-License-Identifier: Apache-2.0
/**
 * The daemon: many devices in one process, its control socket, and the files from which the next process serves them
 * again. Knows nothing of command lines.
 */
@NullMarked
package dev.erofsublk.daemon;

import org.jspecify.annotations.NullMarked;

// SPDX-License-Identifier: Apache-2.0
/** What was read of an image while it was served: written to a file, and brought in ahead when it is served again. */
@NullMarked
package dev.erofsublk.composer.trace;

import org.jspecify.annotations.NullMarked;

// SPDX-License-Identifier: Apache-2.0
/** From what a user names to an open image, whatever its format. */
@NullMarked
package dev.erofsublk.composer.source;

import org.jspecify.annotations.NullMarked;

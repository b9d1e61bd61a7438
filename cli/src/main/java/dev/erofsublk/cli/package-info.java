// SPDX-License-Identifier: Apache-2.0
/** The {@code erofs-ublk} command. */
@NullMarked
package dev.erofsublk.cli;

import org.jspecify.annotations.NullMarked;

// SPDX-License-Identifier: Apache-2.0
/** Flat images as files: what other programs can read without a server. */
@NullMarked
package dev.erofsublk.composer.export;

import org.jspecify.annotations.NullMarked;

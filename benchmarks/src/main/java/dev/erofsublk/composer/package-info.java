// SPDX-License-Identifier: Apache-2.0
/** Benchmarks that have to reach what is package-private in composer. */
@NullMarked
package dev.erofsublk.composer;

import org.jspecify.annotations.NullMarked;

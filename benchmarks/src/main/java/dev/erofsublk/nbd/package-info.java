// SPDX-License-Identifier: Apache-2.0
/** Benchmarks that have to reach what is package-private in nbd. */
@NullMarked
package dev.erofsublk.nbd;

import org.jspecify.annotations.NullMarked;

// SPDX-License-Identifier: Apache-2.0
/** Benchmarks that have to reach what is package-private in uring. */
@NullMarked
package dev.erofsublk.uring;

import org.jspecify.annotations.NullMarked;

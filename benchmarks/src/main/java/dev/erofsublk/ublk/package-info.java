// SPDX-License-Identifier: Apache-2.0
/** Benchmarks that have to reach what is package-private in ublk. */
@NullMarked
package dev.erofsublk.ublk;

import org.jspecify.annotations.NullMarked;

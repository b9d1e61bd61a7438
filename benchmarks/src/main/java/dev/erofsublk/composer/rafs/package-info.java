// SPDX-License-Identifier: Apache-2.0
/** Benchmarks that have to reach what is package-private in rafs. */
@NullMarked
package dev.erofsublk.composer.rafs;

import org.jspecify.annotations.NullMarked;

// SPDX-License-Identifier: Apache-2.0
/** What measures: JMH benchmarks of the hot path, and devices that only the comparison with other servers needs. */
@NullMarked
package dev.erofsublk.benchmarks;

import org.jspecify.annotations.NullMarked;

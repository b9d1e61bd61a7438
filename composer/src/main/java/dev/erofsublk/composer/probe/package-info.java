// SPDX-License-Identifier: Apache-2.0
/** Tells formats apart without believing bytes that a tenant may have written. */
@NullMarked
package dev.erofsublk.composer.probe;

import org.jspecify.annotations.NullMarked;

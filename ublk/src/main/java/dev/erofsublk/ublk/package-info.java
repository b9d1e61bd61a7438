// SPDX-License-Identifier: Apache-2.0
/**
 * A ublk server over an {@link dev.erofsublk.composer.AddressSpace}: the control device, block devices and their
 * queues. It knows nothing of image formats.
 */
@NullMarked
package dev.erofsublk.ublk;

import org.jspecify.annotations.NullMarked;

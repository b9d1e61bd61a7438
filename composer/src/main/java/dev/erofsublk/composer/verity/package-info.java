// SPDX-License-Identifier: Apache-2.0
/** dm-verity hash trees over flat images: integrity that the kernel checks on every read. */
@NullMarked
package dev.erofsublk.composer.verity;

import org.jspecify.annotations.NullMarked;

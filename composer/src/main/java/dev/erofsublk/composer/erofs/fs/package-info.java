// SPDX-License-Identifier: Apache-2.0
/**
 * The files of a flattened EROFS image, read in userspace: through the flat device, as the kernel would after a mount
 * without {@code device=} options, and distrusting every byte.
 */
@NullMarked
package dev.erofsublk.composer.erofs.fs;

import org.jspecify.annotations.NullMarked;

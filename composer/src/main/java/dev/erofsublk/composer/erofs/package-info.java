// SPDX-License-Identifier: Apache-2.0
/** EROFS images as erofs-utils writes them: superblock, device table, and the blobs that the table names. */
@NullMarked
package dev.erofsublk.composer.erofs;

import org.jspecify.annotations.NullMarked;

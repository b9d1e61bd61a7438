// SPDX-License-Identifier: Apache-2.0
/** What the readers of virtual disk formats share: fields of untrusted headers, overlap checks, sector bitmaps. */
@NullMarked
package dev.erofsublk.composer.disk;

import org.jspecify.annotations.NullMarked;

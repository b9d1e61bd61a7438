// SPDX-License-Identifier: Apache-2.0
/**
 * Decoded bytes on disk: whatever a format compresses or encrypts, decoded on demand into a sparse file that several
 * devices and processes share and that survives a crash.
 *
 * <p>Nothing in here knows a format. A format says how the decoded space is cut into pieces
 * ({@link dev.erofsublk.composer.cache.Pieces}) and how one is decoded
 * ({@link dev.erofsublk.composer.cache.PieceDecoder}); {@link dev.erofsublk.composer.cache.CachedSource} does the rest.
 */
@NullMarked
package dev.erofsublk.composer.cache;

import org.jspecify.annotations.NullMarked;

// SPDX-License-Identifier: Apache-2.0
/**
 * Nydus RAFS v6: an EROFS metadata image (the <em>bootstrap</em>) that places the decoded bytes of blobs as extra
 * devices, and blobs whose chunks are compressed, batched, encrypted, or stretches of an original tar.gz.
 *
 * <p>Layout facts: facts/erofs.md §2, from the Nydus sources rafs/src/metadata/layout/v6.rs and storage/src/meta.
 */
@NullMarked
package dev.erofsublk.composer.rafs;

import org.jspecify.annotations.NullMarked;

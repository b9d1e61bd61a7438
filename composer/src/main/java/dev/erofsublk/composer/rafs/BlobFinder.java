// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import java.nio.file.Path;

/** Finds the file of a blob by the blob's id. */
@FunctionalInterface
public interface BlobFinder {
    /**
     * Where the blob {@code id} should be; whether it is there, opening it tells.
     *
     * @param id 1 to 64 characters, letters, digits, {@code . _ -}, the first a letter or digit: safe as a file name
     */
    Path find(String id);

    /** Blobs that lie in {@code directory}, each under its id, as Nydus' localfs backend keeps them. */
    static BlobFinder in(Path directory) {
        return directory::resolve;
    }
}

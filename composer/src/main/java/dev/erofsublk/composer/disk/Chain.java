// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.disk;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.ImageException;
import java.util.HashSet;
import java.util.Set;

/** The files of a chain of differencing images from the child on, to end one that leads back to itself. */
public final class Chain {
    /** Enough for any chain of snapshots; each link holds a file open. */
    public static final int MAX_LENGTH = 256;

    private final Set<Identity> seen = new HashSet<>();

    private record Identity(long device, long inode) {}

    /**
     * Adds the next file.
     *
     * @throws ImageException if it is in the chain already or the chain is too long
     */
    public void add(Blob blob) throws ImageException {
        if (!seen.add(new Identity(blob.status().device(), blob.status().inode()))) {
            throw new ImageException(blob.name(), "parent chain", "a circle", "each file once");
        }
        if (seen.size() > MAX_LENGTH) {
            throw new ImageException(
                    blob.name(), "parent chain", "longer than " + MAX_LENGTH, "at most " + MAX_LENGTH + " files");
        }
    }
}

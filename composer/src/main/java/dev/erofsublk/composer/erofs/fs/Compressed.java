// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import dev.erofsublk.composer.ImageException;
import java.io.IOException;

/** Where the bytes of a compressed file are, and what they are. Not thread-safe. */
final class Compressed {
    private final ErofsFileSystem fs;

    Compressed(ErofsFileSystem fs) {
        this.fs = fs;
    }

    FileExtent at(Inode inode, long offset) throws IOException {
        if (offset < inode.size())
            throw new ImageException(
                    fs.name(), "layout of inode " + inode.nid(), "compressed", "one that this reader decodes");
        return FileExtent.hole(offset, 1);
    }

    void check(Inode inode) throws IOException {
        at(inode, 0);
    }

    byte[] decode(Inode inode, FileExtent extent) throws IOException {
        return new byte[(int) Math.max(extent.length(), inode.size())];
    }
}

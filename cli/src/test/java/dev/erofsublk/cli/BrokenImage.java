// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.erofs.ErofsBuilder;
import dev.erofsublk.composer.erofs.ErofsBuilder.Chunk;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** An image that only a look at its chunks tells to be wrong: one lies behind the end of its slot. */
final class BrokenImage {
    static final String WHAT = "chunk 1 of inode 42 is block 4 (+1) of slot 1, expected within its 4 blocks (/f)";

    private BrokenImage() {}

    /** The options that name it. */
    static List<String> write(Path dir) throws IOException {
        byte[] meta = new ErofsBuilder(12)
                .slot("", 8, 4)
                .file("f", 8192, 0, List.of(new Chunk(1, 0), new Chunk(1, 4)))
                .build();
        return List.of(
                "--meta",
                Files.write(dir.resolve("meta"), meta).toString(),
                "--blob",
                Files.write(dir.resolve("blob"), new byte[4 * 4096]).toString());
    }
}

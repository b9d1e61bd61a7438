// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import dev.erofsublk.composer.Source;
import java.io.IOException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Optional;

/**
 * What a file looks like that was compressed as a whole: a {@code layer.tar.gz} given where the {@code layer.tar} is
 * meant.
 *
 * <p>Only a guess, since data may begin with any bytes: it words a refusal or, together with other evidence, causes one.
 */
enum Encoding {
    /** RFC 1952: ID1, ID2 and the only method there is. */
    GZIP("gzip", "1f8b08"),
    /** RFC 8878, Zstandard_Frame. */
    ZSTD("zstd", "28b52ffd"),
    /** The .xz file format 1.2, section 2.1.1.1. */
    XZ("xz", "fd377a585a00"),
    BZIP2("bzip2", "425a68"),
    /** LZ4 frame format 1.6, general structure. */
    LZ4("lz4", "04224d18");

    private final String title;
    private final String magic;

    Encoding(String title, String magic) {
        this.title = title;
        this.magic = magic;
    }

    /** The name people use. */
    String title() {
        return title;
    }

    /** What {@code file} is compressed with, as far as its first bytes tell. */
    static Optional<Encoding> of(Source file) throws IOException {
        String head = HexFormat.of().formatHex(Superblock.bytes(file, 0, (int) Math.min(file.size(), 8)));
        return Arrays.stream(values()).filter(e -> head.startsWith(e.magic)).findFirst();
    }
}

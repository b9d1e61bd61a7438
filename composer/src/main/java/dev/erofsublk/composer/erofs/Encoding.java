// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import dev.erofsublk.composer.Source;
import java.io.IOException;
import java.util.Optional;

/**
 * What a file looks like that was compressed as a whole: a {@code layer.tar.gz} given where the {@code layer.tar} is
 * meant.
 *
 * <p>Only a guess, since data may begin with any bytes: it words a refusal or, together with other evidence, causes one.
 */
enum Encoding {
    /** RFC 1952: ID1, ID2 and the only method there is. */
    GZIP("gzip", 0x1f, 0x8b, 0x08),
    /** RFC 8878, Zstandard_Frame. */
    ZSTD("zstd", 0x28, 0xb5, 0x2f, 0xfd),
    /** The .xz file format 1.2, 2.1.1.1. */
    XZ("xz", 0xfd, '7', 'z', 'X', 'Z', 0),
    BZIP2("bzip2", 'B', 'Z', 'h'),
    /** LZ4 frame format 1.6, general structure. */
    LZ4("lz4", 0x04, 0x22, 0x4d, 0x18);

    private final String title;
    private final int[] magic;

    Encoding(String title, int... magic) {
        this.title = title;
        this.magic = magic;
    }

    /** The name people use. */
    String title() {
        return title;
    }

    /** What {@code file} is compressed with, as far as its first bytes tell. */
    static Optional<Encoding> of(Source file) throws IOException {
        byte[] head = Superblock.bytes(file, 0, (int) Math.min(file.size(), 8));
        for (Encoding encoding : values()) {
            if (encoding.begins(head)) {
                return Optional.of(encoding);
            }
        }
        return Optional.empty();
    }

    private boolean begins(byte[] head) {
        if (head.length < magic.length) {
            return false;
        }
        for (int i = 0; i < magic.length; i++) {
            if ((head[i] & 0xff) != magic[i]) {
                return false;
            }
        }
        return true;
    }
}

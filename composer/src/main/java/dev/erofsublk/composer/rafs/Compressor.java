// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import io.airlift.compress.v3.lz4.Lz4Decompressor;
import io.airlift.compress.v3.zstd.ZstdDecompressor;
import java.lang.foreign.MemorySegment;

/** How chunks of a blob are compressed (utils/src/compress/mod.rs). */
enum Compressor {
    NONE(0),
    LZ4_BLOCK(1),
    GZIP(2),
    ZSTD(3);

    static final int CODES = 4;

    /** What the format calls it. */
    final int code;

    Compressor(int code) {
        this.code = code;
    }

    /** The compressor of a code below {@link #CODES}. */
    static Compressor of(long code) {
        for (Compressor compressor : values()) {
            if (compressor.code == code) {
                return compressor;
            }
        }
        throw new IllegalArgumentException("compressor " + code);
    }

    /**
     * Decompresses exactly {@code out.byteSize()} bytes.
     *
     * @param in native memory
     * @param out native memory
     * @throws MalformedException if {@code in} does not hold that
     */
    void decompress(MemorySegment in, MemorySegment out) throws MalformedException {
        long n;
        try {
            n = switch (this) {
                case NONE -> {
                    if (in.byteSize() == out.byteSize()) {
                        out.copyFrom(in);
                    }
                    yield in.byteSize();
                }
                // The codecs are made anew each time: their scratch memory is small, and they are not thread-safe.
                case LZ4_BLOCK -> Lz4Decompressor.create().decompress(in, out);
                case ZSTD -> ZstdDecompressor.create().decompress(in, out);
                case GZIP -> Inflate.gzip(in, out, false);
            };
        } catch (RuntimeException e) { // what the library has for malformed input: three kinds of it
            throw new MalformedException("damaged " + this + " data: " + e.getMessage(), e);
        }
        if (n != out.byteSize()) {
            throw new MalformedException(this + " data decode to " + n + " bytes, expected " + out.byteSize(), null);
        }
    }

    @Override
    public String toString() {
        return this == LZ4_BLOCK ? "lz4_block" : name().toLowerCase(java.util.Locale.ROOT);
    }
}

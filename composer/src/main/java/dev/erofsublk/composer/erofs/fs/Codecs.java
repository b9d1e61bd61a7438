// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import io.airlift.compress.v3.zstd.ZstdDecompressor;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.SequenceInputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;
import org.tukaani.xz.LZMAInputStream;

/** The four ways in which EROFS compresses a physical cluster, by their numbers {@code Z_EROFS_COMPRESSION_*}. */
final class Codecs {
    private static final int LZ4 = 0;
    private static final int LZMA = 1;
    private static final int DEFLATE = 2;
    private static final int ZSTD = 3;

    /** Input that does not decode; the message says to what instead. */
    static final class DamagedException extends Exception {
        DamagedException(String message) {
            super(message);
        }
    }

    private Codecs() {}

    /**
     * Decodes until {@code out} is full.
     *
     * @param in of which the bytes from {@code start} on are compressed
     * @param partial whether there may be more in it than is wanted
     */
    static void decode(int codec, byte[] in, int start, byte[] out, boolean partial) throws DamagedException {
        int length = switch (codec) {
            case LZ4 -> lz4(in, start, out);
            case LZMA -> lzma(in, start, out);
            case DEFLATE -> deflate(in, start, out);
            case ZSTD -> zstd(in, start, out, partial);
            default -> throw new DamagedException("codec " + codec);
        };
        if (length != out.length) {
            throw new DamagedException(length + " bytes");
        }
    }

    /**
     * Decodes an LZ4 block (lz4_Block_format.md) as far as it is wanted. Of our own, because an extent may be only the
     * first part of what its cluster holds, and because the cluster may have bytes behind the block; libraries want to
     * know either exactly.
     */
    private static int lz4(byte[] in, int start, byte[] out) throws DamagedException {
        int at = start;
        int done = 0;
        while (done < out.length) {
            if (at >= in.length) {
                return done;
            }
            int token = in[at++] & 0xff;
            int literals = token >>> 4;
            if (literals == 15) {
                int more;
                do {
                    more = next(in, at++);
                    literals += more;
                } while (more == 255);
            }
            literals = Math.min(literals, out.length - done);
            if (literals > in.length - at) {
                throw new DamagedException("literals beyond the input");
            }
            System.arraycopy(in, at, out, done, literals);
            at += literals;
            done += literals;
            if (done == out.length || at == in.length) {
                return done;
            }
            int distance = next(in, at) | next(in, at + 1) << 8;
            at += 2;
            if (distance == 0 || distance > done) {
                throw new DamagedException("a match before the first byte");
            }
            int match = (token & 15) + 4;
            if (match == 19) {
                int more;
                do {
                    more = next(in, at++);
                    match += more;
                } while (more == 255);
            }
            for (int end = Math.min(out.length, done + match); done < end; done++) {
                out[done] = out[done - distance];
            }
        }
        return done;
    }

    private static int next(byte[] in, int at) throws DamagedException {
        if (at >= in.length) {
            throw new DamagedException("cut off");
        }
        return in[at] & 0xff;
    }

    /** MicroLZMA: raw LZMA whose first byte, always zero, gives its place to the inverted properties. */
    private static int lzma(byte[] in, int start, byte[] out) throws DamagedException {
        if (start >= in.length) {
            throw new DamagedException("nothing");
        }
        byte properties = (byte) ~in[start];
        InputStream raw = new SequenceInputStream(
                new ByteArrayInputStream(new byte[1]), new ByteArrayInputStream(in, start + 1, in.length - start - 1));
        // no match is farther back than the extent is long
        try (LZMAInputStream stream = new LZMAInputStream(raw, -1, properties, Math.max(4096, out.length))) {
            return stream.readNBytes(out, 0, out.length);
        } catch (IOException e) {
            throw new DamagedException("damaged lzma data: " + e.getMessage());
        }
    }

    private static int deflate(byte[] in, int start, byte[] out) throws DamagedException {
        try (RawInflater inflater = new RawInflater()) {
            return inflater.decode(in, start, out);
        }
    }

    /** An {@link Inflater} that closes: the class itself does only from Java 26 on. */
    private static final class RawInflater implements AutoCloseable {
        private final Inflater inflater = new Inflater(true);

        int decode(byte[] in, int start, byte[] out) throws DamagedException {
            inflater.setInput(in, start, in.length - start);
            int done = 0;
            try {
                while (done < out.length) {
                    int n = inflater.inflate(out, done, out.length - done);
                    if (n == 0) {
                        return done;
                    }
                    done += n;
                }
            } catch (DataFormatException e) {
                throw new DamagedException("damaged deflate data: " + e.getMessage());
            }
            return done;
        }

        @Override
        public void close() {
            inflater.end();
        }
    }

    private static int zstd(byte[] in, int start, byte[] out, boolean partial) throws DamagedException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment source =
                    arena.allocate(Math.max(1, in.length - start)).asSlice(0, in.length - start);
            MemorySegment.copy(in, start, source, ValueLayout.JAVA_BYTE, 0, in.length - start);
            MemorySegment target = arena.allocate(partial ? Compressed.MAX_EXTENT : out.length);
            long length = ZstdDecompressor.create().decompress(source, target);
            MemorySegment.copy(target, ValueLayout.JAVA_BYTE, 0, out, 0, (int) Math.min(length, out.length));
            return (int) Math.min(length, out.length);
        } catch (RuntimeException e) { // what the library has for malformed input: several kinds of it
            throw new DamagedException("damaged zstd data: " + e.getMessage());
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Source;
import dev.erofsublk.composer.cache.CacheDirectory;
import dev.erofsublk.composer.cache.DecodeException;
import dev.erofsublk.composer.cache.PieceDecoder;
import dev.erofsublk.composer.cache.Pieces;
import dev.erofsublk.composer.erofs.Superblock;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Objects;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * Where the metadata image lies: a file of its own, or the {@code image.boot} of a self-contained blob, there plain or
 * compressed.
 *
 * @param source the file, or what is decoded from it
 * @param file the file that the user named
 * @param toc its table of contents, if it is a blob; null if it is the bootstrap itself
 */
record Bootstrap(Source source, Blob file, @Nullable Toc toc) {
    private static final long MAX_EMBEDDED = 1L << 30;

    /** Whether the file is a blob that carries its own bootstrap. */
    boolean isEmbedded() {
        return toc != null;
    }

    /**
     * Finds the bootstrap in {@code file}, which stays the caller's to close; a source beside it is the caller's too.
     */
    static Bootstrap locate(Blob file, CacheDirectory cache) throws IOException {
        if (isRafs(Superblock.find(file))) {
            return new Bootstrap(file, file, null);
        }
        Toc toc = Toc.read(file);
        Toc.Entry boot = toc == null ? null : toc.find(Toc.BOOTSTRAP);
        if (toc == null || boot == null) {
            throw new ImageException(
                    file.name(),
                    "content",
                    "no RAFS v6 superblock at 1024 and no image.boot in a table of contents",
                    "a RAFS v6 bootstrap or a blob that carries one");
        }
        if (boot.size() == 0 || boot.size() > Math.min(MAX_EMBEDDED, BlobMeta.expansionLimit(boot.stored()))) {
            throw new ImageException(
                    file.name(),
                    "toc entry \"image.boot\" size",
                    boot.size(),
                    "1 to " + Math.min(MAX_EMBEDDED, BlobMeta.expansionLimit(boot.stored())));
        }
        return new Bootstrap(decoded(file, boot, cache), file, toc);
    }

    static boolean isRafs(Optional<Superblock> superblock) {
        return superblock.isPresent() && superblock.get().isRafs();
    }

    /** An embedded bootstrap is one piece of a cache: it may be large, and is then not for the heap. */
    private static Source decoded(Blob file, Toc.Entry boot, CacheDirectory cache) throws IOException {
        String digest = boot.digest() != null ? boot.digest() : file.status().toString();
        byte[] identity = ("rafs image.boot " + boot.compressor() + " " + boot.offset() + " " + boot.stored() + " "
                        + digest)
                .getBytes(java.nio.charset.StandardCharsets.UTF_8);
        return cache.open("boot", identity, whole(boot.size()), new Decoder(file, boot));
    }

    private static Pieces whole(long size) {
        return new Pieces() {
            @Override
            public int count() {
                return 1;
            }

            @Override
            public long start(int piece) {
                return piece == 0 ? 0 : size;
            }
        };
    }

    private record Decoder(Blob file, Toc.Entry boot) implements PieceDecoder {
        @Override
        public String name() {
            return file.name() + " (image.boot)";
        }

        @Override
        public void decode(int piece, Sink sink) throws IOException {
            try (Arena scratch = Arena.ofConfined()) {
                MemorySegment stored =
                        scratch.allocate(Math.max(boot.stored(), 1), 16).asSlice(0, boot.stored());
                file.read(boot.offset(), stored);
                MemorySegment decoded = scratch.allocate(boot.size(), 16);
                boot.compressor().decompress(stored, decoded);
                String found = Toc.hex(Digester.SHA256.digest(decoded));
                if (boot.digest() != null && !found.equals(boot.digest())) {
                    throw new MalformedException("sha256 is " + found + ", expected " + boot.digest(), null);
                }
                sink.put(piece, decoded);
            } catch (MalformedException e) {
                throw new DecodeException(
                        file.name(), "image.boot", piece, 0, "the file system", String.valueOf(e.getMessage()), e);
            }
        }

        @Override
        public void close() {} // the file is the image's
    }

    String name() {
        return isEmbedded() ? file.name() + " (image.boot)" : file.name();
    }

    /** Reads bytes of the bootstrap; {@code field} names them should they lie outside of it. */
    MemorySegment read(String field, long at, long length, Arena arena) throws IOException {
        long size = source.size();
        if (at < 0 || length < 0 || length > size || at > size - length) {
            throw new ImageException(
                    name(),
                    field,
                    "[" + Long.toUnsignedString(at) + ", +" + Long.toUnsignedString(length) + ")",
                    "within the bootstrap of " + size + " bytes");
        }
        MemorySegment bytes = arena.allocate(Math.max(length, 1), 16).asSlice(0, length);
        try {
            source.read(at, bytes);
        } catch (DecodeException e) {
            throw new ImageException(name(), "content", Objects.toString(e.getMessage()), "a readable bootstrap");
        }
        return bytes;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.cache.DecodeException;
import dev.erofsublk.composer.cache.PieceDecoder;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.security.MessageDigest;
import java.util.zip.CRC32C;
import org.jspecify.annotations.Nullable;

/**
 * Decodes chunks of one blob: reads, decrypts, decompresses, and checks the digest.
 *
 * <p>Thread-safe. Works in native memory of its own for each call, twice the size of a chunk or batch at most.
 */
final class BlobDecoder implements PieceDecoder {
    /** What a legacy eStargz chunk may need beyond its decoded size: utils/src/compress/mod.rs has the sum. */
    private static final int GZIP_SLACK = 10 + 8 + 5 + 128;

    private final BlobEntry entry;
    private final Blob data;
    private final ChunkTable chunks;
    private final Contexts contexts;
    private final ChunkDigests digests;
    private final @Nullable AesXts cipher;
    private volatile @Nullable ChunkFiles files;

    /** @param data the file of the encoded chunks, which is the image's to close */
    BlobDecoder(BlobEntry entry, Blob data, BlobMeta meta, ChunkDigests digests) {
        this.entry = entry;
        this.data = data;
        this.digests = digests;
        chunks = meta.chunks();
        contexts = meta.contexts();
        cipher = entry.encrypted() ? entry.cipher() : null;
    }

    /** Gives names of files to messages, once there is an image that has any. */
    void nameBy(ChunkFiles chunkFiles) {
        files = chunkFiles;
    }

    @Override
    public String name() {
        return data.name();
    }

    @Override
    public int group(int chunk) {
        return chunks.isZran(chunk) || chunks.isBatch(chunk) ? -1 - (int) chunks.context(chunk) : chunk;
    }

    @Override
    public void decode(int chunk, Sink sink) throws IOException {
        try (Arena scratch = Arena.ofConfined()) {
            if (chunks.isZran(chunk)) {
                int context = (int) chunks.context(chunk);
                handOver(chunk, context, stretch(context, scratch), sink);
            } else if (chunks.isBatch(chunk)) {
                int context = (int) chunks.context(chunk);
                handOver(chunk, context, batch(chunk, context, scratch), sink);
            } else {
                MemorySegment decoded = single(chunk, scratch);
                check(chunk, decoded);
                sink.put(chunk, decoded);
            }
        } catch (MalformedException e) {
            throw failure(chunk, String.valueOf(e.getMessage()), e);
        }
    }

    private MemorySegment single(int chunk, Arena scratch) throws IOException, MalformedException {
        MemorySegment decoded = scratch.allocate(chunks.decodedLength(chunk), 16);
        boolean legacyGzip = entry.compressor() == Compressor.GZIP && !entry.has(Feature.CHUNK_INFO_V2);
        if (legacyGzip && chunks.isCompressed(chunk)) {
            // An eStargz table of contents does not say where a member ends; it says so itself.
            long needed = decoded.byteSize() + GZIP_SLACK + (decoded.byteSize() >> 14) * 5;
            long length = Math.max(chunks.encodedLength(chunk), needed);
            MemorySegment member = read(
                    chunks.encodedOffset(chunk), Math.min(length, data.size() - chunks.encodedOffset(chunk)), scratch);
            if (Inflate.gzip(member, decoded, true) != decoded.byteSize()) {
                throw new MalformedException("gzip data end before " + decoded.byteSize() + " bytes", null);
            }
            return decoded;
        }
        MemorySegment encoded = read(chunks.encodedOffset(chunk), chunks.encodedLength(chunk), scratch);
        if (cipher != null && chunks.isEncrypted(chunk)) {
            encoded = cipher.decrypt(encoded);
        }
        (chunks.isCompressed(chunk) ? entry.compressor() : Compressor.NONE).decompress(encoded, decoded);
        return decoded;
    }

    private MemorySegment batch(int chunk, int context, Arena scratch) throws IOException, MalformedException {
        MemorySegment encoded = read(chunks.encodedOffset(chunk), contexts.encodedLength(context), scratch);
        if (cipher != null && chunks.isEncrypted(chunk)) {
            encoded = cipher.decrypt(encoded);
        }
        MemorySegment decoded = scratch.allocate(contexts.decodedLength(context), 16);
        // Chunks of a batch always claim to be compressed; a batch that did not shrink is stored as it is.
        boolean raw = encoded.byteSize() == decoded.byteSize();
        (raw ? Compressor.NONE : entry.compressor()).decompress(encoded, decoded);
        return decoded;
    }

    private MemorySegment stretch(int context, Arena scratch) throws IOException, MalformedException {
        MemorySegment encoded = read(contexts.inOffset(context), contexts.encodedLength(context), scratch);
        MemorySegment decoded = scratch.allocate(contexts.decodedLength(context), 16);
        long n = Inflate.raw(
                contexts.bits(context), contexts.firstByte(context), contexts.dictionary(context), encoded, decoded);
        if (n != decoded.byteSize()) {
            throw new MalformedException(
                    "stretch " + context + " inflates to " + n + " bytes, expected " + decoded.byteSize(), null);
        }
        return decoded;
    }

    /** Hands over all chunks of a context whose digests are right, and fails if that of the wanted one is not. */
    private void handOver(int wanted, int context, MemorySegment decoded, Sink sink) throws IOException {
        DecodeException failure = null;
        for (int i = 0; i < contexts.chunkCount(context); i++) {
            int chunk = contexts.chunk(context, i);
            if (chunk != wanted && (!sink.wants(chunk) || !sameBatch(wanted, chunk))) {
                continue;
            }
            MemorySegment bytes = decoded.asSlice(chunks.contextOffset(chunk), chunks.decodedLength(chunk));
            try {
                check(chunk, bytes);
                sink.put(chunk, bytes);
            } catch (DecodeException e) {
                if (chunk == wanted) {
                    failure = e;
                }
            }
        }
        if (failure != null) {
            throw failure;
        }
    }

    /** Where a batch lies, each of its chunks says: one that says otherwise is not of this one. */
    private boolean sameBatch(int wanted, int chunk) {
        return chunks.isZran(chunk)
                || (chunks.encodedOffset(chunk) == chunks.encodedOffset(wanted)
                        && chunks.isEncrypted(chunk) == chunks.isEncrypted(wanted));
    }

    private MemorySegment read(long offset, long length, Arena scratch) throws IOException {
        MemorySegment bytes = scratch.allocate(Math.max(length, 1), 16).asSlice(0, length);
        data.read(offset, bytes);
        return bytes;
    }

    private void check(int chunk, MemorySegment decoded) throws DecodeException {
        byte[] expected = digests.of(chunk);
        if (expected != null) {
            byte[] found = entry.digester().digest(decoded);
            if (!MessageDigest.isEqual(found, expected)) {
                throw failure(
                        chunk, entry.digester() + " is " + Toc.hex(found) + ", expected " + Toc.hex(expected), null);
            }
        }
        if (chunks.hasCrc(chunk)) {
            CRC32C crc = new CRC32C();
            crc.update(decoded.asByteBuffer());
            if (crc.getValue() != chunks.contextOffset(chunk)) {
                throw failure(
                        chunk,
                        "crc32c is %08x, expected %08x".formatted(crc.getValue(), chunks.contextOffset(chunk)),
                        null);
            }
        }
    }

    private DecodeException failure(int chunk, String reason, @Nullable Throwable cause) {
        ChunkFiles known = files;
        long offset = chunks.offset(chunk);
        return new DecodeException(
                name(),
                "chunk " + chunk + " of blob " + entry.index(),
                chunk,
                offset,
                known == null ? "an image not yet open" : known.of(entry.index(), offset, chunks.decodedLength(chunk)),
                reason,
                cause);
    }

    @Override
    public void close() {} // files and memory are the image's
}

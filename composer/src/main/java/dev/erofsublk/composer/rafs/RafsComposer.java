// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.cache.CacheDirectory;
import dev.erofsublk.composer.cache.CachedSource;
import dev.erofsublk.composer.erofs.DeviceSlot;
import dev.erofsublk.composer.erofs.ErofsComposer;
import dev.erofsublk.composer.erofs.Superblock;
import dev.erofsublk.uring.LinuxException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** Opens the blobs that a bootstrap names and has them laid behind it. Used once; keeps what it opened for closing. */
final class RafsComposer {
    private final BlobFinder finder;
    private final CacheDirectory cache;
    private final List<Runnable> owned = new ArrayList<>();

    RafsComposer(BlobFinder finder, CacheDirectory cache) {
        this.finder = finder;
        this.cache = cache;
    }

    RafsImage compose(Path path) throws IOException {
        Blob file = own(Blob.open(path));
        Bootstrap bootstrap = Bootstrap.locate(file, cache);
        own(bootstrap.source()::close);
        ErofsComposer composer = ErofsComposer.open(bootstrap.source());
        Superblock superblock = composer.superblock();
        if (!superblock.isRafs()
                || superblock.is48Bit()
                || (superblock.blockBits() != 12 && superblock.blockBits() != 9)) {
            throw new ImageException(
                    bootstrap.name(),
                    "superblock",
                    "of blocks of " + superblock.blockSize() + " bytes with features " + superblock.features(),
                    "RAFS v6 with blocks of 4096 bytes, or 512 in tarfs mode");
        }
        if (bootstrap.source().size() % superblock.blockSize() != 0) {
            throw new ImageException(
                    bootstrap.name(),
                    "size",
                    bootstrap.source().size() + " bytes",
                    "a multiple of the block size " + superblock.blockSize());
        }
        Extension extension = Extension.read(bootstrap);
        List<BlobEntry> entries = entries(bootstrap, extension, composer.slots());
        List<Opened> opened = new ArrayList<>();
        for (BlobEntry entry : entries) {
            opened.add(open(entry, bootstrap, superblock));
        }
        readDigests(bootstrap, extension, opened);
        List<RafsBlob> blobs = new ArrayList<>();
        for (Opened blob : opened) {
            checkSlot(blob.entry, composer.slots().get(blob.entry.index()), superblock, bootstrap);
            blobs.add(source(blob));
        }
        List<ErofsComposer.Data> data = blobs.stream()
                .map(b -> new ErofsComposer.Data(b.source(), b.bytes()))
                .toList();
        return new RafsImage(composer.composeData(data), blobs, inReverse());
    }

    /** Closes what was opened, the last first; only where there is no image to do so. */
    void closeAll() {
        inReverse().forEach(Runnable::run);
    }

    private List<Runnable> inReverse() {
        List<Runnable> reverse = new ArrayList<>(owned);
        Collections.reverse(reverse);
        return List.copyOf(reverse);
    }

    private Blob own(Blob blob) {
        owned.add(blob::close);
        return blob;
    }

    private void own(Runnable close) {
        owned.add(close);
    }

    private static List<BlobEntry> entries(Bootstrap bootstrap, Extension extension, List<DeviceSlot> slots)
            throws IOException {
        if (extension.blobTableSize() != (long) slots.size() * BlobEntry.BYTES) {
            throw new ImageException(
                    bootstrap.name(),
                    "extended superblock blob_table_size",
                    extension.blobTableSize(),
                    (long) slots.size() * BlobEntry.BYTES + ", for the " + slots.size() + " slots of the device table");
        }
        MemorySegment table;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment read =
                    bootstrap.read("blob table", extension.blobTableOffset(), extension.blobTableSize(), arena);
            table = MemorySegment.ofArray(read.toArray(java.lang.foreign.ValueLayout.JAVA_BYTE))
                    .asReadOnly();
        }
        List<BlobEntry> entries = new ArrayList<>();
        Map<String, Integer> indexes = new HashMap<>();
        for (DeviceSlot slot : slots) {
            int i = entries.size();
            BlobEntry entry =
                    new BlobEntry(bootstrap.name(), i, table.asSlice((long) i * BlobEntry.BYTES, BlobEntry.BYTES));
            if (!entry.id().equals(slot.tag())) {
                throw entry.refusal("blob_id", entry.id(), slot.tag() + ", the tag of device slot " + slot.number());
            }
            Integer other = indexes.put(entry.id(), i);
            if (other != null) {
                throw entry.refusal("blob_id", entry.id(), "an id of its own, not that of blob " + other);
            }
            entries.add(entry);
        }
        return entries;
    }

    /** A slot must be as long as what the blob decodes to; one without a length is repaired from that. */
    private static void checkSlot(BlobEntry entry, DeviceSlot slot, Superblock superblock, Bootstrap bootstrap)
            throws ImageException {
        long size = entry.uncompressedSize();
        long whole = size >> superblock.blockBits();
        long rounded = RafsImage.alignUp(size, superblock.blockSize()) >> superblock.blockBits();
        if (slot.blocks() != 0 && slot.blocks() != whole && slot.blocks() != rounded) {
            throw new ImageException(
                    bootstrap.name(),
                    "device slot " + slot.number() + " blocks",
                    slot.blocks(),
                    rounded + ", the uncompressed_size " + size + " of its blob");
        }
    }

    /**
     * A blob whose files are open and whose tables are read and checked.
     *
     * @param meta null in tarfs mode, where the slot is the tar archive itself, block for block
     * @param digests null then too
     */
    private record Opened(
            BlobEntry entry,
            Blob data,
            @Nullable BlobMeta meta,
            @Nullable ChunkDigests digests) {}

    private Opened open(BlobEntry entry, Bootstrap bootstrap, Superblock superblock) throws IOException {
        boolean tarfs = superblock.blockBits() == 9;
        if (entry.has(Feature.TARFS) != tarfs) {
            throw entry.refusal(
                    "features",
                    Feature.names(entry.features()),
                    tarfs ? "TARFS with blocks of 512 bytes" : "no TARFS with blocks of 4096 bytes");
        }
        Blob data = dataFile(entry, bootstrap);
        if (tarfs) {
            if (data.size() < entry.uncompressedSize()) {
                throw new ImageException(
                        data.name(),
                        "size",
                        data.size() + " bytes",
                        "at least the blob's uncompressed_size " + entry.uncompressedSize());
            }
            return new Opened(entry, data, null, null);
        }
        Blob file = metaFile(entry, bootstrap, data);
        Toc toc = toc(entry, bootstrap, file);
        Arena memory = Arena.ofShared();
        own(() -> {
            if (memory.scope().isAlive()) {
                memory.close();
            }
        });
        BlobMeta meta = BlobMeta.read(entry, file, data, toc, memory);
        ChunkDigests digests = new ChunkDigests(entry.chunkCount(), memory);
        if (toc != null && entry.has(Feature.INLINED_CHUNK_DIGEST)) {
            digests.readInlined(file, toc.find(Toc.DIGESTS));
        }
        return new Opened(entry, data, meta, digests);
    }

    /** Reads the chunk table of the bootstrap, which has the digests of all blobs. */
    private static void readDigests(Bootstrap bootstrap, Extension extension, List<Opened> blobs) throws IOException {
        long size = extension.chunkTableSize();
        if (size < 0 || size % ChunkDigests.ENTRY_BYTES != 0) {
            throw new ImageException(
                    bootstrap.name(),
                    "extended superblock chunk_table_size",
                    Long.toUnsignedString(size),
                    "a multiple of " + ChunkDigests.ENTRY_BYTES);
        }
        long perRead = 4096L * ChunkDigests.ENTRY_BYTES;
        for (long at = 0; at < size; at += perRead) {
            try (Arena arena = Arena.ofConfined()) {
                long n = Math.min(size - at, perRead);
                MemorySegment entries =
                        bootstrap.read("chunk table", Math.addExact(extension.chunkTableOffset(), at), n, arena);
                for (long i = 0; i < n; i += ChunkDigests.ENTRY_BYTES) {
                    addDigest(bootstrap, entries.asSlice(i, ChunkDigests.ENTRY_BYTES), blobs);
                }
            }
        }
    }

    private static void addDigest(Bootstrap bootstrap, MemorySegment entry, List<Opened> blobs) throws ImageException {
        long index = ChunkDigests.blobIndex(entry);
        if (index >= blobs.size()) {
            throw new ImageException(bootstrap.name(), "chunk table blob_index", index, "less than " + blobs.size());
        }
        Opened blob = blobs.get((int) index);
        if (blob.meta != null && blob.digests != null) {
            blob.digests.add(bootstrap.name(), entry, blob.meta.chunks());
        }
    }

    private RafsBlob source(Opened blob) throws IOException {
        BlobEntry entry = blob.entry;
        if (blob.meta == null || blob.digests == null) {
            return new RafsBlob(entry, blob.data, entry.uncompressedSize(), null);
        }
        ChunkTable chunks = blob.meta.chunks();
        BlobDecoder decoder = new BlobDecoder(entry, blob.data, blob.meta, blob.digests);
        RafsBlob.Parts parts = new RafsBlob.Parts(chunks, blob.digests, decoder);
        if (isPlain(chunks)) {
            return new RafsBlob(entry, blob.data, chunks.size(), parts);
        }
        CachedSource decoded = cache.open(
                entry.id().substring(0, Math.min(16, entry.id().length())),
                identity(entry, blob.data, chunks, blob.digests),
                chunks,
                decoder);
        own(decoded::close);
        return new RafsBlob(entry, decoded, decoded.size(), parts);
    }

    /** Whether the decoded bytes are those of the file, at the same offsets. */
    private static boolean isPlain(ChunkTable chunks) {
        for (int i = 0; i < chunks.count(); i++) {
            if (chunks.isZran(i)
                    || chunks.isBatch(i)
                    || chunks.isEncrypted(i)
                    || chunks.isCompressed(i)
                    || chunks.encodedOffset(i) != chunks.offset(i)
                    || chunks.decodedLength(i) != chunks.length(i)) {
                return false;
            }
        }
        return true;
    }

    /**
     * What decides the decoded bytes: the entry and the chunks' digests; and where a chunk has none, the file itself.
     */
    private static byte[] identity(BlobEntry entry, Blob data, ChunkTable chunks, ChunkDigests digests) {
        ByteArrayOutputStream identity = new ByteArrayOutputStream();
        identity.writeBytes(entry.raw());
        identity.writeBytes(digests.identity());
        identity.writeBytes(Digester.SHA256.digest(chunks.table));
        if (digests.count() < chunks.count()) {
            identity.writeBytes(data.status().toString().getBytes(StandardCharsets.US_ASCII));
        }
        return identity.toByteArray();
    }

    private Blob dataFile(BlobEntry entry, Bootstrap bootstrap) throws IOException {
        boolean inlined = entry.has(Feature.INLINED_FS_META) && !entry.has(Feature.SEPARATE);
        Blob found = openFound(entry.id());
        if (found != null) {
            return found;
        }
        if (inlined && bootstrap.isEmbedded()) {
            return bootstrap.file(); // whose name its own bootstrap cannot know
        }
        if (inlined) { // and which the bootstrap, extracted, bears as its own name
            String name = bootstrap.file().path().getFileName().toString();
            int dot = name.indexOf('.');
            found = dot > 0 ? openFound(name.substring(0, dot)) : null;
            if (found != null) {
                return found;
            }
        }
        throw missing(entry, "blob_id", entry.id());
    }

    private Blob metaFile(BlobEntry entry, Bootstrap bootstrap, Blob data) throws IOException {
        if (!entry.has(Feature.SEPARATE)) {
            return data;
        }
        if (entry.has(Feature.INLINED_FS_META) && bootstrap.isEmbedded()) {
            return bootstrap.file();
        }
        Blob found = openFound(entry.metaId());
        if (found == null) {
            throw missing(entry, "meta_digest", entry.metaId());
        }
        return found;
    }

    /** Opens the blob {@code id}; null if there is no such file. */
    private @Nullable Blob openFound(String id) throws IOException {
        try {
            return own(Blob.open(finder.find(id)));
        } catch (LinuxException e) {
            if (Blob.isMissing(e)) {
                return null;
            }
            throw e;
        }
    }

    private ImageException missing(BlobEntry entry, String field, String id) {
        return entry.refusal(field, id, "the name of a file, which " + finder.find(id) + " is not");
    }

    private static @Nullable Toc toc(BlobEntry entry, Bootstrap bootstrap, Blob meta) throws IOException {
        if (meta == bootstrap.file()) {
            return bootstrap.toc();
        }
        if (!entry.has(Feature.HAS_TOC)) {
            return null;
        }
        Toc toc = Toc.read(meta, entry.tocDigest());
        if (toc == null) {
            throw new ImageException(
                    meta.name(), "end of the file", "no table of contents", "one, which the feature HAS_TOC promises");
        }
        return toc;
    }
}

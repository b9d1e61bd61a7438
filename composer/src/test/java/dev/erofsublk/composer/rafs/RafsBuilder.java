// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import io.airlift.compress.v3.Compressor;
import io.airlift.compress.v3.lz4.Lz4NativeCompressor;
import io.airlift.compress.v3.zstd.ZstdNativeCompressor;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.zip.CRC32C;
import java.util.zip.GZIPOutputStream;
import javax.crypto.Cipher;
import javax.crypto.spec.SecretKeySpec;
import org.apache.commons.codec.digest.Blake3;

/**
 * Writes RAFS v6 images, as Nydus would: a bootstrap that Linux mounts and a blob of its files' chunks. Written from the
 * layouts in facts/erofs.md §1 and §2.3, not from the reader, of which it uses nothing.
 */
@SuppressWarnings("ByteBufferBackingArray") // le() allocates them
final class RafsBuilder {
    static final int NONE = 0;
    static final int LZ4 = 1;
    static final int GZIP = 2;
    static final int ZSTD = 3;

    static final int ALIGNED = 0x1;
    static final int INLINED_FS_META = 0x2;
    static final int CHUNK_INFO_V2 = 0x4;
    static final int ZRAN = 0x8;
    static final int SEPARATE = 0x10;
    static final int INLINED_CHUNK_DIGEST = 0x20;
    static final int TARFS = 0x40;
    static final int BATCH = 0x80;
    static final int ENCRYPTED = 0x100;
    static final int HAS_TAR_HEADER = 0x1000_0000;
    static final int HAS_TOC = 0x2000_0000;
    static final int CAP_TAR_TOC = 0x4000_0000;

    boolean v2;
    int compressor = ZSTD;
    int ciCompressor = NONE;
    boolean sha256;
    boolean tarHeaders;
    boolean toc;
    boolean digestsInBootstrap = true;
    boolean digestsInBlob;
    boolean crc;
    int batchSize;
    boolean encrypted;
    boolean zran;
    boolean tarRef;
    boolean tarfs;
    boolean embedded;
    int embeddedCompressor = ZSTD;
    boolean checksum;
    long alignment = 0x80000;
    boolean noAddress;
    boolean noBlocks;
    int chunkSize = 65536;
    boolean oldHeader;

    private final TreeMap<String, byte[]> files = new TreeMap<>();

    RafsBuilder file(String name, byte[] content) {
        files.put(name, content);
        return this;
    }

    /** What was written. */
    static final class Built {
        final Path bootstrap;
        final Path blob;
        final String blobId;
        final Map<String, byte[]> files;
        final List<Chunk> chunks;
        final byte[] decoded;
        long ciOffset;
        long ciSize;

        Built(Path bootstrap, Path blob, String blobId, Map<String, byte[]> files, List<Chunk> chunks, byte[] decoded) {
            this.bootstrap = bootstrap;
            this.blob = blob;
            this.blobId = blobId;
            this.files = files;
            this.chunks = chunks;
            this.decoded = decoded;
        }
    }

    /** A chunk as it is laid out. */
    static final class Chunk {
        final String file;
        final byte[] bytes;
        long encodedOffset;
        int encodedSize;
        long offset;
        boolean compressed;
        int context = -1;
        int contextOffset;

        Chunk(String file, byte[] bytes) {
            this.file = file;
            this.bytes = bytes;
        }
    }

    private final List<Chunk> chunks = new ArrayList<>();
    private final ByteArrayOutputStream contexts = new ByteArrayOutputStream();
    private final ByteArrayOutputStream dictionaries = new ByteArrayOutputStream();
    private int contextCount;
    private final byte[] key = new byte[32];
    private final byte[] iv = new byte[16];
    private long decodedSize;
    private final BlobRow row = new BlobRow();

    /** Writes the image into {@code directory}. */
    Built build(Path directory) throws IOException {
        for (int i = 0; i < key.length; i++) {
            key[i] = (byte) (i * 7 + 1);
        }
        for (int i = 0; i < iv.length; i++) {
            iv[i] = (byte) (0xf0 - i * 3);
        }
        cut();
        ByteArrayOutputStream data = new ByteArrayOutputStream();
        if (tarfs) {
            data.writeBytes(layTar());
        } else if (tarRef) {
            data.writeBytes(layTar());
        } else if (zran) {
            data.writeBytes(layTarGz());
        } else if (batchSize > 0) {
            layBatches(data);
        } else {
            for (Chunk chunk : chunks) {
                layChunk(chunk, data);
            }
        }
        if (tarfs) {
            decodedSize = data.size();
        }
        byte[] decoded = decodedImage(data);
        return write(directory, data.toByteArray(), decoded);
    }

    private boolean separate() {
        return zran || tarRef;
    }

    private void cut() {
        files.forEach((name, content) -> {
            for (int at = 0; at < content.length; at += chunkSize) {
                chunks.add(new Chunk(name, Arrays.copyOfRange(content, at, Math.min(content.length, at + chunkSize))));
            }
        });
        for (Chunk chunk : chunks) {
            chunk.offset = decodedSize;
            decodedSize += roundUp(chunk.bytes.length, 4096);
        }
    }

    private byte[] decodedImage(ByteArrayOutputStream data) {
        if (tarfs) {
            return data.toByteArray();
        }
        byte[] decoded = new byte[(int) decodedSize];
        for (Chunk chunk : chunks) {
            System.arraycopy(chunk.bytes, 0, decoded, (int) chunk.offset, chunk.bytes.length);
        }
        return decoded;
    }

    private void layChunk(Chunk chunk, ByteArrayOutputStream data) throws IOException {
        byte[] packed = compress(chunk.bytes, compressor);
        chunk.compressed = packed.length < chunk.bytes.length;
        byte[] stored = encrypt(chunk.compressed ? packed : chunk.bytes);
        chunk.encodedOffset = data.size();
        chunk.encodedSize = stored.length;
        data.writeBytes(stored);
    }

    private void layBatches(ByteArrayOutputStream data) throws IOException {
        ByteArrayOutputStream batch = new ByteArrayOutputStream();
        List<Chunk> members = new ArrayList<>();
        for (Chunk chunk : chunks) {
            if (chunk.bytes.length >= batchSize / 2) {
                layChunk(chunk, data); // too big for a batch; the open batch goes on behind it
                continue;
            }
            if (batch.size() + chunk.bytes.length > batchSize) {
                closeBatch(batch, members, data);
            }
            chunk.context = contextCount;
            chunk.contextOffset = batch.size();
            batch.writeBytes(chunk.bytes);
            members.add(chunk);
        }
        closeBatch(batch, members, data);
    }

    private void closeBatch(ByteArrayOutputStream batch, List<Chunk> members, ByteArrayOutputStream data)
            throws IOException {
        if (members.isEmpty()) {
            return;
        }
        byte[] plain = batch.toByteArray();
        byte[] packed = compress(plain, compressor);
        byte[] stored = encrypt(packed.length < plain.length ? packed : plain);
        for (Chunk chunk : members) {
            chunk.encodedOffset = data.size();
            chunk.encodedSize = 0;
            chunk.compressed = true;
        }
        contexts.writeBytes(le(40).putInt(stored.length).putInt(plain.length).array());
        contextCount++;
        data.writeBytes(stored);
        batch.reset();
        members.clear();
    }

    private byte[] layTar() {
        List<Integer> offsets = new ArrayList<>();
        byte[] tar = DeflateBlocks.tar(tarFiles(), offsets);
        place(offsets, false);
        return tar;
    }

    private List<DeflateBlocks.TarFile> tarFiles() {
        List<DeflateBlocks.TarFile> list = new ArrayList<>();
        files.forEach((name, content) -> list.add(new DeflateBlocks.TarFile(name, content)));
        return list;
    }

    private void place(List<Integer> offsets, boolean compressed) {
        List<String> names = new ArrayList<>(files.keySet());
        int[] within = new int[names.size()];
        for (Chunk chunk : chunks) {
            int file = names.indexOf(chunk.file);
            chunk.encodedOffset = (long) offsets.get(file) + within[file];
            chunk.encodedSize = chunk.bytes.length;
            chunk.compressed = compressed;
            within[file] += chunk.bytes.length;
            if (tarfs) {
                chunk.offset = chunk.encodedOffset;
            }
        }
    }

    private byte[] layTarGz() throws IOException {
        List<Integer> offsets = new ArrayList<>();
        byte[] tar = DeflateBlocks.tar(tarFiles(), offsets);
        // Two members, so that one context begins at another member's first block.
        int half = offsets.get(offsets.size() / 2) - 512;
        ByteArrayOutputStream file = new ByteArrayOutputStream();
        for (int[] part : new int[][] {{0, half}, {half, tar.length}}) {
            file.writeBytes(gzip(Arrays.copyOfRange(tar, part[0], part[1])));
        }
        byte[] targz = file.toByteArray();
        DeflateBlocks blocks = new DeflateBlocks(targz);
        place(offsets, true);
        int i = 0;
        while (i < chunks.size()) {
            i = stretch(chunks, i, blocks, targz, half);
        }
        return targz;
    }

    /** One context that begins with the block of chunk {@code from} and takes as many chunks as 96 KiB hold. */
    private int stretch(List<Chunk> list, int from, DeflateBlocks blocks, byte[] targz, int half) {
        DeflateBlocks.Block first = blocks.blocks().getFirst();
        for (DeflateBlocks.Block block : blocks.blocks()) {
            if (block.out() <= list.get(from).encodedOffset && block.endOut() > block.out()) {
                first = block;
            }
        }
        int to = from;
        long end = 0;
        while (to < list.size()) {
            Chunk chunk = list.get(to);
            boolean otherMember = (chunk.encodedOffset >= half) != (first.out() >= half);
            if (to > from && (otherMember || chunk.encodedOffset + chunk.bytes.length - first.out() > 96 << 10)) {
                break;
            }
            chunk.context = contextCount;
            chunk.contextOffset = (int) (chunk.encodedOffset - first.out());
            end = chunk.encodedOffset + chunk.bytes.length;
            to++;
        }
        long endBit = 0;
        for (DeflateBlocks.Block block : blocks.blocks()) {
            if (block.out() < end && block.endOut() > block.out()) {
                endBit = block.endBit();
            }
        }
        int odd = (int) (first.bit() % 8);
        long in = (first.bit() + 7) / 8;
        int dictionarySize = Math.min(32768, first.out() - first.member());
        long inEnd = (endBit + 7) / 8;
        contexts.writeBytes(le(40).putLong(in)
                .putLong(first.out())
                .putLong(dictionaries.size())
                .putInt((int) (inEnd - in))
                .putInt((int) (end - first.out()))
                .putInt(dictionarySize)
                .put(odd == 0 ? 0 : targz[(int) (first.bit() / 8)])
                .put((byte) (odd == 0 ? 0 : 8 - odd))
                .array());
        dictionaries.write(blocks.content(), first.out() - dictionarySize, dictionarySize);
        contextCount++;
        for (int i = from; i < to; i++) { // in the table, the encoded place of a chunk is only for prefetching
            list.get(i).encodedOffset = in;
            list.get(i).encodedSize = (int) (inEnd - in);
        }
        return to;
    }

    // ---- the blob file

    private Built write(Path directory, byte[] data, byte[] decoded) throws IOException {
        String id = hex(sha256(data));
        ByteArrayOutputStream meta = separate() ? new ByteArrayOutputStream() : null;
        ByteArrayOutputStream blob = new ByteArrayOutputStream();
        blob.writeBytes(data);
        ByteArrayOutputStream tail = meta == null ? blob : meta;
        ByteArrayOutputStream entries = new ByteArrayOutputStream();
        if (tarHeaders && !tarfs && meta == null) {
            tail.writeBytes(tarHeader("image.blob", data.length));
        }
        entries.writeBytes(tocEntry("image.blob", NONE, sha256(data), 0, data.length, decodedSize));

        byte[] table = table();
        byte[] packed = compress(table, ciCompressor);
        int usedCiCompressor = packed.length < table.length ? ciCompressor : NONE;
        byte[] ci = encrypt(usedCiCompressor == NONE ? table : packed);
        long ciOffset = tail.size();
        byte[] header = header(ciOffset, ci.length, table.length, usedCiCompressor);
        if (!tarfs) {
            tail.writeBytes(ci);
            tail.writeBytes(encrypt(header));
            if (tarHeaders) {
                tail.writeBytes(tarHeader("blob.meta", ci.length + 4096));
            }
            entries.writeBytes(
                    tocEntry("blob.meta", usedCiCompressor, sha256(table), ciOffset, ci.length, table.length));
            entries.writeBytes(tocEntry("blob.meta.header", NONE, sha256(header), ciOffset + ci.length, 4096, 4096));
        }
        if (digestsInBlob) {
            ByteArrayOutputStream digests = new ByteArrayOutputStream();
            chunks.forEach(c -> digests.writeBytes(digest(c.bytes)));
            byte[] bytes = digests.toByteArray();
            entries.writeBytes(tocEntry("blob.digest", NONE, sha256(bytes), tail.size(), bytes.length, bytes.length));
            tail.writeBytes(bytes);
            if (tarHeaders) {
                tail.writeBytes(tarHeader("blob.digest", bytes.length));
            }
        }
        row.ciOffset = ciOffset;
        row.ciCompressed = ci.length;
        row.ciSize = table.length;
        row.ciCompressor = usedCiCompressor;
        row.id = id;
        if (embedded) {
            row.compressedSize = separate() ? data.length : 0; // a builder does not know its file's size here
            byte[] bootstrap = bootstrap(List.of(this));
            byte[] stored = compress(bootstrap, embeddedCompressor);
            int used = stored.length < bootstrap.length ? embeddedCompressor : NONE;
            stored = used == NONE ? bootstrap : stored;
            entries.writeBytes(
                    tocEntry("image.boot", used, sha256(bootstrap), tail.size(), stored.length, bootstrap.length));
            tail.writeBytes(stored);
            if (tarHeaders) {
                tail.writeBytes(tarHeader("image.boot", stored.length));
            }
        }
        if (toc) {
            byte[] all = concat(entries.toByteArray(), tarHeader("rafs.blob.toc", entries.size()));
            row.tocSize = all.length;
            row.tocDigest = sha256(all);
            tail.writeBytes(all);
        }
        Path blobPath = directory.resolve(id);
        Files.write(blobPath, blob.toByteArray());
        Path bootstrapPath = directory.resolve("bootstrap-" + id.substring(0, 8));
        if (meta != null) {
            byte[] metaDigest = sha256(meta.toByteArray());
            row.metaDigest = metaDigest;
            row.metaSize = meta.size();
            Files.write(embedded ? bootstrapPath : directory.resolve(hex(metaDigest)), meta.toByteArray());
        } else if (embedded) {
            bootstrapPath = blobPath;
        }
        if (!embedded) {
            row.compressedSize = separate() || tarfs ? data.length : blob.size();
            Files.write(bootstrapPath, bootstrap(List.of(this)));
        }
        Built built = new Built(bootstrapPath, blobPath, id, files, chunks, decoded);
        built.ciOffset = ciOffset;
        built.ciSize = ci.length;
        return built;
    }

    private byte[] table() {
        ByteArrayOutputStream table = new ByteArrayOutputStream();
        for (Chunk c : chunks) {
            long size = c.bytes.length - 1L;
            if (v2) {
                long flags = (c.compressed ? 1 : 0)
                        | (zran ? 2 : 0)
                        | (c.context >= 0 && !zran ? 4 : 0)
                        | (encrypted ? 8 : 0)
                        | (crc && c.context < 0 ? 0x10 : 0);
                CRC32C sum = new CRC32C();
                sum.update(c.bytes);
                long extra = c.context >= 0 ? (long) c.context << 32 | c.contextOffset : crc ? sum.getValue() : 0;
                table.writeBytes(le(24).putLong(flags << 56 | size << 32 | c.offset >> 12)
                        .putLong((long) c.encodedSize << 40 | c.encodedOffset)
                        .putLong(extra)
                        .array());
            } else {
                long encoded = c.encodedSize - 1L;
                table.writeBytes(le(16).putLong((size & 0xfffff) << 44 | size >> 20 << 8 | c.offset)
                        .putLong((encoded & 0xfffff) << 44 | encoded >> 20 << 40 | c.encodedOffset)
                        .array());
            }
        }
        table.writeBytes(contexts.toByteArray());
        table.writeBytes(dictionaries.toByteArray());
        return table.toByteArray();
    }

    private int features() {
        return ALIGNED
                | (embedded ? INLINED_FS_META : 0)
                | (v2 ? CHUNK_INFO_V2 : 0)
                | (zran ? ZRAN : 0)
                | (separate() ? SEPARATE : 0)
                | (digestsInBlob ? INLINED_CHUNK_DIGEST : 0)
                | (tarfs ? TARFS : 0)
                | (batchSize > 0 ? BATCH : 0)
                | (encrypted ? ENCRYPTED : 0)
                | (tarHeaders ? HAS_TAR_HEADER : 0)
                | (toc ? HAS_TOC : 0)
                | (oldHeader ? 0 : CAP_TAR_TOC);
    }

    private byte[] header(long offset, long compressed, long size, int usedCompressor) {
        ByteBuffer header = le(4096);
        header.putInt(0, 0xB10BB10B).putInt(4, features());
        if (oldHeader) {
            header.putLong(8, chunks.size());
        } else {
            header.putInt(8, usedCompressor).putInt(12, chunks.size());
        }
        header.putLong(16, offset).putLong(24, compressed).putLong(32, size);
        if (contextCount > 0) {
            header.putLong(40, chunks.size() * 24L)
                    .putLong(48, contexts.size() + dictionaries.size())
                    .putInt(56, contextCount);
        }
        header.putInt(4092, 0xB10BB10B);
        return header.array();
    }

    static byte[] tarHeader(String name, long size) {
        byte[] header = new byte[512];
        put(header, 0, name);
        put(header, 100, "0000444\0" + "0000000\0" + "0000000\0");
        put(header, 124, String.format(Locale.ROOT, "%011o\0", size) + "00000000000\0" + "        0");
        put(header, 257, "ustar  \0");
        int sum = 0;
        for (byte b : header) {
            sum += b & 0xff;
        }
        put(header, 148, String.format(Locale.ROOT, "%06o\0 ", sum));
        return header;
    }

    private static void put(byte[] target, int at, String text) {
        byte[] bytes = text.getBytes(StandardCharsets.US_ASCII);
        System.arraycopy(bytes, 0, target, at, bytes.length);
    }

    private static byte[] tocEntry(String name, int compressor, byte[] digest, long offset, long stored, long size) {
        ByteBuffer entry = le(128);
        entry.putInt(compressor == NONE ? 1 : compressor == ZSTD ? 2 : 4).putInt(0);
        entry.put(Arrays.copyOf(name.getBytes(StandardCharsets.US_ASCII), 16)).put(digest);
        entry.putLong(offset).putLong(stored).putLong(size);
        return entry.array();
    }

    // ---- the bootstrap

    private static final class BlobRow {
        String id = "";
        long compressedSize;
        long ciOffset;
        long ciCompressed;
        long ciSize;
        int ciCompressor;
        int tocSize;
        byte[] tocDigest = new byte[32];
        byte[] metaDigest = new byte[32];
        long metaSize;
    }

    private byte[] blobTable(int index) {
        ByteBuffer b = le(256);
        b.put(row.id.getBytes(StandardCharsets.US_ASCII));
        b.putInt(64, index)
                .putInt(68, chunkSize)
                .putInt(72, tarfs ? 0 : chunks.size())
                .putInt(76, zran ? GZIP : compressor);
        b.putInt(80, sha256 ? 1 : 0).putInt(84, features());
        b.putLong(88, row.compressedSize).putLong(96, decodedSize);
        boolean inlined = embedded;
        b.putInt(104, inlined ? 0 : row.tocSize).putInt(108, oldHeader ? 0 : row.ciCompressor);
        b.putLong(112, tarfs ? 0 : row.ciOffset).putLong(120, tarfs ? 0 : row.ciCompressed);
        b.putLong(128, tarfs ? 0 : row.ciSize);
        b.put(136, inlined ? new byte[32] : row.tocDigest);
        if (encrypted) {
            b.put(168, key).put(200, iv).putInt(216, 1);
        } else {
            b.put(168, row.metaDigest).putLong(200, row.metaSize);
        }
        return b.array();
    }

    /** Writes the bootstrap of several blobs, each built before; options of the metadata are those of this builder. */
    Path merge(Path directory, List<RafsBuilder> parts) throws IOException {
        return Files.write(directory.resolve("merged"), bootstrap(parts));
    }

    private byte[] bootstrap(List<RafsBuilder> parts) {
        int blockBits = tarfs ? 9 : 12;
        int block = 1 << blockBits;
        int blobTableAt = (int) roundUp(1408 + 128L * parts.size(), 4096);
        int meta = (int) roundUp(blobTableAt + 256L * parts.size(), 4096);
        int root = meta + 4096; // not nid 0
        List<String> names = new ArrayList<>(List.of(".", ".."));
        parts.forEach(p -> names.addAll(p.files.keySet()));
        names.sort(null);
        int directorySize = names.stream().mapToInt(n -> 12 + n.length()).sum();
        if (directorySize > block) {
            throw new IllegalStateException("the names do not fit a block of " + block);
        }
        int at = root + 64;
        TreeMap<String, Integer> inodes = new TreeMap<>();
        for (RafsBuilder part : parts) {
            for (var file : part.files.entrySet()) {
                at = (int) roundUp(at, 32);
                inodes.put(file.getKey(), at);
                at += 64 + 8 * part.chunkCount(file.getValue());
            }
        }
        int directoryAt = (int) roundUp(at, block);
        int chunkTableAt = (int) roundUp(directoryAt + block, 4096);
        int chunkTableSize = 0;
        for (RafsBuilder part : parts) {
            chunkTableSize += part.digestsInBootstrap && !tarfs ? 80 * part.chunks.size() : 0;
        }
        int size = (int) roundUp(chunkTableAt + chunkTableSize, 4096);

        ByteBuffer image = le(size);
        image.putInt(1024, 0xE0F5E1E2)
                .putInt(1032, 0x40000000 | (checksum ? 1 : 0))
                .put(1036, (byte) blockBits);
        image.putShort(1038, (short) ((root - meta) / 32)).putLong(1040, inodes.size() + 1);
        image.putInt(1064, meta / block).putInt(1104, 0xc);
        image.putShort(1110, (short) parts.size()).putShort(1112, (short) 11);
        image.putLong(1160, blobTableAt).putInt(1168, 256 * parts.size()).putInt(1172, chunkSize);
        image.putLong(1176, chunkTableAt).putLong(1184, chunkTableSize);

        inode(image, root, 0, 0x41ed, directorySize, directoryAt / block, 2);
        directory(image, directoryAt, names, inodes, root, meta);
        long end = size;
        long allBlocks = 0;
        for (int i = 0; i < parts.size(); i++) {
            RafsBuilder part = parts.get(i);
            long address = roundUp(end, alignment) / block;
            long blocks = part.decodedSize / block;
            end = (address + blocks) * block;
            allBlocks += blocks;
            int slot = 1408 + 128 * i;
            image.put(slot, part.row.id.getBytes(StandardCharsets.US_ASCII));
            image.putInt(slot + 64, noBlocks ? 0 : (int) blocks).putInt(slot + 68, noAddress ? 0 : (int) address);
            image.put(blobTableAt + 256 * i, part.blobTable(i));
            part.inodes(image, inodes, i, block);
            if (part.digestsInBootstrap && !tarfs) {
                part.chunkTable(image, chunkTableAt, i);
                chunkTableAt += 80 * part.chunks.size();
            }
        }
        image.putInt(1060, (int) allBlocks);
        if (checksum) {
            CRC32C crc = new CRC32C();
            crc.update(le(8).putInt(0xE0F5E1E2).putInt(0).array());
            crc.update(image.array(), 1032, (block > 1024 ? block - 1024 : block) - 8);
            image.putInt(1028, (int) ~crc.getValue());
        }
        return image.array();
    }

    private void inodes(ByteBuffer image, Map<String, Integer> inodes, int blob, int block) {
        for (var file : files.entrySet()) {
            int inode = Objects.requireNonNull(inodes.get(file.getKey()));
            int format = 0x20 | Integer.numberOfTrailingZeros(chunkSize / block);
            inode(image, inode, 4, 0x81a4, file.getValue().length, format, 1);
            int index = inode + 64;
            int n = 0;
            for (Chunk chunk : chunks) {
                if (chunk.file.equals(file.getKey())) {
                    image.putShort(index, (short) n++).putShort(index + 2, (short) (blob + 1));
                    image.putInt(index + 4, (int) (chunk.offset / block));
                    index += 8;
                }
            }
        }
    }

    private int chunkCount(byte[] content) {
        return (content.length + chunkSize - 1) / chunkSize;
    }

    private static void inode(ByteBuffer image, int at, int layout, int mode, long size, int u, int links) {
        image.putShort(at, (short) (1 | layout << 1))
                .putShort(at + 4, (short) mode)
                .putLong(at + 8, size);
        image.putInt(at + 16, u).putInt(at + 20, at / 32).putInt(at + 44, links);
    }

    private static void directory(
            ByteBuffer image, int at, List<String> names, Map<String, Integer> inodes, int root, int meta) {
        int nameAt = names.size() * 12;
        for (int i = 0; i < names.size(); i++) {
            String name = names.get(i);
            boolean directory = name.equals(".") || name.equals("..");
            int inode = directory ? root : Objects.requireNonNull(inodes.get(name));
            image.putLong(at + 12 * i, (inode - meta) / 32).putShort(at + 12 * i + 8, (short) nameAt);
            image.put(at + 12 * i + 10, (byte) (directory ? 2 : 1));
            image.put(at + nameAt, name.getBytes(StandardCharsets.US_ASCII));
            nameAt += name.length();
        }
    }

    private void chunkTable(ByteBuffer image, int at, int blob) {
        TreeMap<String, Integer> byDigest = new TreeMap<>(); // Nydus writes them in the order of their digests
        for (int i = 0; i < chunks.size(); i++) {
            byDigest.put(hex(digest(chunks.get(i).bytes)) + String.format(Locale.ROOT, "%08d", i), i);
        }
        for (int i : byDigest.values()) {
            Chunk c = chunks.get(i);
            image.put(at, digest(c.bytes)).putInt(at + 32, blob).putInt(at + 36, c.compressed ? 1 : 0);
            image.putInt(at + 40, c.encodedSize).putInt(at + 44, c.bytes.length);
            image.putLong(at + 48, c.encodedOffset).putLong(at + 56, c.offset).putInt(at + 72, i);
            at += 80;
        }
    }

    // ---- encodings

    private byte[] digest(byte[] bytes) {
        return sha256 ? sha256(bytes) : Blake3.hash(bytes);
    }

    static byte[] sha256(byte[] bytes) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(bytes);
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }

    static byte[] compress(byte[] bytes, int kind) throws IOException {
        if (kind == NONE || bytes.length == 0) {
            return bytes;
        }
        if (kind == GZIP) {
            return gzip(bytes);
        }
        Compressor codec = kind == LZ4 ? new Lz4NativeCompressor() : new ZstdNativeCompressor();
        byte[] out = new byte[codec.maxCompressedLength(bytes.length)];
        return Arrays.copyOf(out, codec.compress(bytes, 0, bytes.length, out, 0, out.length));
    }

    static byte[] gzip(byte[] bytes) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        try (GZIPOutputStream gzip = new GZIPOutputStream(out)) {
            gzip.write(bytes);
        }
        return out.toByteArray();
    }

    private byte[] encrypt(byte[] bytes) {
        return encrypted ? xtsEncrypt(bytes, key, iv) : bytes;
    }

    /** AES-128-XTS as IEEE 1619 describes it, a byte at a time; short pieces padded as Nydus pads them. */
    static byte[] xtsEncrypt(byte[] plain, byte[] key, byte[] iv) {
        byte[] p = plain;
        if (plain.length < 16) {
            p = new byte[18];
            Arrays.fill(p, (byte) (16 - plain.length));
            System.arraycopy(plain, 0, p, 0, plain.length);
            p[16] = 0x78;
            p[17] = (byte) 0x90;
        }
        try {
            Cipher k1 = Cipher.getInstance("AES/ECB/NoPadding");
            k1.init(Cipher.ENCRYPT_MODE, new SecretKeySpec(key, 0, 16, "AES"));
            Cipher k2 = Cipher.getInstance("AES/ECB/NoPadding");
            k2.init(Cipher.ENCRYPT_MODE, new SecretKeySpec(key, 16, 16, "AES"));
            byte[] tweak = k2.doFinal(iv);
            byte[] c = new byte[p.length];
            int whole = p.length / 16;
            for (int i = 0; i < whole; i++) {
                System.arraycopy(xtsBlock(k1, Arrays.copyOfRange(p, i * 16, i * 16 + 16), tweak), 0, c, i * 16, 16);
                if (i < whole - 1 || p.length % 16 != 0) {
                    timesX(tweak);
                }
            }
            int tail = p.length % 16;
            if (tail != 0) {
                byte[] last = Arrays.copyOfRange(c, whole * 16 - 16, whole * 16);
                System.arraycopy(last, 0, c, whole * 16, tail);
                byte[] mixed = last.clone();
                System.arraycopy(p, whole * 16, mixed, 0, tail);
                System.arraycopy(xtsBlock(k1, mixed, tweak), 0, c, whole * 16 - 16, 16);
            }
            return c;
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    private static byte[] xtsBlock(Cipher aes, byte[] block, byte[] tweak) throws GeneralSecurityException {
        byte[] x = block.clone();
        for (int i = 0; i < 16; i++) {
            x[i] ^= tweak[i];
        }
        byte[] y = aes.doFinal(x);
        for (int i = 0; i < 16; i++) {
            y[i] ^= tweak[i];
        }
        return y;
    }

    private static void timesX(byte[] tweak) {
        int carry = 0;
        for (int i = 0; i < 16; i++) {
            int b = tweak[i] & 0xff;
            tweak[i] = (byte) (b << 1 | carry);
            carry = b >> 7;
        }
        if (carry != 0) {
            tweak[0] ^= (byte) 0x87;
        }
    }

    private static byte[] concat(byte[] a, byte[] b) {
        byte[] both = Arrays.copyOf(a, a.length + b.length);
        System.arraycopy(b, 0, both, a.length, b.length);
        return both;
    }

    private static ByteBuffer le(int size) {
        return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
    }

    static long roundUp(long value, long to) {
        return (value + to - 1) / to * to;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.fuzz;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.cache.DecodeException;
import dev.erofsublk.composer.disk.Contents;
import dev.erofsublk.composer.erofs.ErofsBuilder;
import dev.erofsublk.composer.erofs.ErofsBuilder.Chunk;
import dev.erofsublk.composer.erofs.fs.ErofsFileSystem;
import dev.erofsublk.composer.erofs.fs.ReverseIndex;
import dev.erofsublk.composer.erofs.fs.Walk;
import dev.erofsublk.composer.probe.Format;
import dev.erofsublk.composer.rafs.RafsFiles;
import dev.erofsublk.composer.rafs.RafsImage;
import dev.erofsublk.composer.source.ImageSource;
import dev.erofsublk.composer.vhd.VhdFiles;
import dev.erofsublk.composer.vhdx.VhdxFiles;
import dev.erofsublk.composer.vmdk.VmdkDescriptorWriter;
import dev.erofsublk.composer.vmdk.VmdkFiles;
import dev.erofsublk.composer.vmdk.VmdkStreamWriter;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/**
 * A sound image of a format, and what may become of it when bytes of it are changed: it is read or refused, and nothing
 * else happens.
 *
 * <p>An input is not a file but changes to the sound one, so that inputs are some bytes long, whatever the format:
 * {@code u8 flags (1: bring checksums up to date) | u16 place, u8 value | u16 place, u8 value ...}, places being counted
 * in the bytes of those sectors that are neither zeros nor the disk's content.
 */
public final class FuzzTarget implements AutoCloseable {
    private static final int SECTOR = 512;
    private static final int BLOCK_BITS = 1024 + 12;
    private static final int CONTENT = 96 << 10;
    private static final long READ_AT_MOST = 8 << 20;

    private final Kind kind;
    private final ImageSource source;
    private final byte[] sound;
    private final int[] places;
    private final FileChannel channel;
    private final Path cache;
    private List<Integer> touched = new ArrayList<>();
    private int read;

    /**
     * An image.
     *
     * @param opened the file that is opened
     * @param damaged the one of its files that is changed
     */
    private record Made(Path opened, Path damaged) {}

    /** The formats, and the forms of them that have parsers of their own. */
    public enum Kind {
        EROFS(Format.EROFS),
        VMDK_DESCRIPTOR(Format.VMDK),
        VMDK_SPARSE(Format.VMDK),
        VMDK_STREAM(Format.VMDK),
        VHDX_WITH_LOG(Format.VHDX),
        VHD_DIFFERENCING(Format.VHD),
        RAFS_BOOTSTRAP(Format.EROFS),
        RAFS_BLOB(Format.EROFS),
        /** A blob without magic at its head, in which only what is at its end shows what it is. */
        RAFS_SELF_CONTAINED(null);

        private final @Nullable Format format;

        Kind(@Nullable Format format) {
            this.format = format;
        }

        private Made make(Path directory) throws IOException {
            Path raw = Files.write(directory.resolve("raw"), content());
            Path out = directory.resolve(name().toLowerCase(java.util.Locale.ROOT));
            switch (this) {
                case EROFS ->
                    Files.write(
                            out,
                            new ErofsBuilder(9)
                                    .file("a", 1024, 0, List.of(new Chunk(0, 1), new Chunk(0, -1)))
                                    .file("b", 700, 1, List.of(new Chunk(0, 2)))
                                    .build());
                case VMDK_SPARSE -> VmdkFiles.sparse(raw, out);
                case VHDX_WITH_LOG -> VhdxFiles.dirty(raw, out, 3);
                case VHD_DIFFERENCING -> VhdFiles.differencing(raw, out);
                case RAFS_BOOTSTRAP, RAFS_BLOB -> {
                    RafsFiles.Pair rafs = RafsFiles.apart(directory);
                    return new Made(rafs.bootstrap(), this == RAFS_BLOB ? rafs.blob() : rafs.bootstrap());
                }
                case RAFS_SELF_CONTAINED -> {
                    Path blob = RafsFiles.together(directory).blob();
                    return new Made(blob, blob);
                }
                default -> write(raw, out);
            }
            return new Made(out, out);
        }

        private void write(Path raw, Path out) throws IOException {
            try (Image image = new ImageSource(null, null, List.of(), raw, Format.RAW, List.of(), null).open()) {
                if (this == VMDK_STREAM) {
                    VmdkStreamWriter.write(image.flat(), out, true, 6, done -> {});
                } else {
                    VmdkDescriptorWriter.write(image.flat(), out, true, 4096);
                }
            }
        }

        private void seal(byte[] file) {
            switch (this) {
                case EROFS -> signErofs(file);
                case VHDX_WITH_LOG -> VhdxFiles.seal(file);
                case VHD_DIFFERENCING -> VhdFiles.seal(file);
                case RAFS_SELF_CONTAINED -> RafsFiles.seal(file);
                default -> {}
            }
        }

        /** What the checksum covers depends on the block size, which may be damaged too. */
        private static void signErofs(byte[] file) {
            if (file[BLOCK_BITS] >= 9 && file[BLOCK_BITS] <= 12 && file.length >= 1 << file[BLOCK_BITS]) {
                ErofsBuilder.sign(file);
            }
        }
    }

    private static byte[] content() {
        byte[] bytes = new byte[CONTENT];
        new Random(1).nextBytes(bytes);
        Arrays.fill(bytes, 1024, CONTENT / 2, (byte) 0); // payload is of no interest, and holes are
        return bytes;
    }

    private FuzzTarget(Kind kind, Path directory) throws IOException {
        this.kind = kind;
        Made made = kind.make(directory);
        sound = Files.readAllBytes(made.damaged);
        places = places(sound, content());
        channel = FileChannel.open(made.damaged, StandardOpenOption.WRITE);
        cache = directory.resolve("cache");
        source = new ImageSource(null, null, List.of(), made.opened, kind.format, List.of(), cache);
    }

    /** Makes the sound image in {@code directory}. */
    public static FuzzTarget of(Kind kind, Path directory) throws IOException {
        return new FuzzTarget(kind, directory);
    }

    /** The first byte of every sector that may be metadata. */
    private static int[] places(byte[] file, byte[] content) {
        Set<ByteBuffer> payload = new HashSet<>();
        for (int at = 0; at < content.length; at += SECTOR) {
            payload.add(ByteBuffer.wrap(content, at, SECTOR));
        }
        for (byte stale : new byte[] {0, (byte) 0xa5}) {
            byte[] sector = new byte[SECTOR];
            Arrays.fill(sector, stale);
            payload.add(ByteBuffer.wrap(sector));
        }
        return IntStream.range(0, (file.length + SECTOR - 1) / SECTOR)
                .map(sector -> sector * SECTOR)
                .filter(at -> !payload.contains(ByteBuffer.wrap(file, at, Math.min(SECTOR, file.length - at))))
                .toArray();
    }

    /** How many of the inputs were read and not refused. */
    public int read() {
        return read;
    }

    /** Applies {@code input} and reads what can be read; whatever leaves this but a refusal is a defect. */
    public void run(byte[] input) throws IOException {
        byte[] damaged = sound.clone();
        for (int i = 1; i + 2 < input.length; i += 3) {
            int place = (input[i] & 0xff | (input[i + 1] & 0xff) << 8) % (places.length * SECTOR);
            int at = places[place / SECTOR] + place % SECTOR;
            if (at < damaged.length) {
                damaged[at] = input[i + 2];
            }
        }
        if (input.length > 0 && (input[0] & 1) != 0) {
            kind.seal(damaged);
        }
        write(damaged);
        try (Image image = source.open()) {
            look(image.flat());
            if (image instanceof RafsImage rafs) {
                rafs.verify(done -> {}, problem -> true);
            }
            read++;
        } catch (ImageException | DecodeException refused) {
            if (String.valueOf(refused.getMessage()).contains("\n")) {
                throw new AssertionError("a message of two lines", refused);
            }
        }
        forgetDecoded();
    }

    /** Each damaged file is another one to the cache, which would grow with every input. */
    private void forgetDecoded() throws IOException {
        if (Files.exists(cache)) {
            try (DirectoryStream<Path> files = Files.newDirectoryStream(cache)) {
                for (Path file : files) {
                    Files.delete(file);
                }
            }
        }
    }

    private void write(byte[] damaged) throws IOException {
        for (int at : touched) {
            channel.write(ByteBuffer.wrap(sound, at, Math.min(SECTOR, sound.length - at)), at);
        }
        touched = new ArrayList<>();
        for (int at = 0; at < sound.length; at += SECTOR) {
            int end = Math.min(at + SECTOR, sound.length);
            if (Arrays.mismatch(damaged, at, end, sound, at, end) >= 0) {
                touched.add(at);
                channel.write(ByteBuffer.wrap(damaged, at, end - at), at);
            }
        }
    }

    private static void look(FlatImage flat) throws IOException {
        if (flat.size() <= READ_AT_MOST) {
            byte[] all = Contents.of(flat);
            if (all.length != flat.size()) {
                throw new AssertionError(all.length + " bytes of " + flat.size());
            }
        }
        if (ErofsFileSystem.isOn(flat)) {
            ErofsFileSystem fs = ErofsFileSystem.open("fuzzed", flat);
            Walk.start(fs, 1).report().join();
            ReverseIndex.build(fs);
        }
    }

    @Override
    public void close() throws IOException {
        channel.close();
    }
}

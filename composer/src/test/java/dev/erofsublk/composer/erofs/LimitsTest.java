// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.erofs.ErofsBuilder.Chunk;
import dev.erofsublk.composer.erofs.fs.ErofsFileSystem;
import dev.erofsublk.composer.erofs.fs.Walk;
import dev.erofsublk.composer.erofs.fs.WalkReport;
import dev.erofsublk.composer.export.RawExport;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** The largest images: time and memory in proportion to slots, extents and chunks, not to bytes. */
class LimitsTest {
    @TempDir
    private Path dir;

    @Test
    @Timeout(value = 20, unit = TimeUnit.SECONDS)
    void allSlotsThatTheTableCanHave() throws Exception {
        int slots = 65_535;
        ErofsBuilder builder = new ErofsBuilder(9).incompat(0x8c);
        int metaBlocks = new ErofsBuilder(9).build().length / 512 + slots / 4 + 1;
        for (int i = 0; i < slots; i++) {
            builder.slot("", metaBlocks + 2L * i, 1);
        }
        Path meta = Files.write(dir.resolve("meta"), builder.build());
        Path data =
                Files.write(dir.resolve("data"), "d".repeat(512).getBytes(java.nio.charset.StandardCharsets.US_ASCII));
        Blob metaBlob = Blob.open(meta);
        try (Blob one = Blob.open(data)) {
            ErofsComposer composer = ErofsComposer.open(metaBlob);
            List<Blob> blobs = new ArrayList<>();
            for (int i = 0; i < slots; i++) {
                blobs.add(one); // a descriptor each would be more than a process may have
            }
            try (ErofsImage image = composer.compose(blobs)) {
                assertThat(image.devices()).hasSize(slots);
                assertThat(image.flat().extentCount()).isGreaterThanOrEqualTo(2 * slots - 1);
                assertThat(Walk.run(ErofsFileSystem.open("image", image.flat())).problems())
                        .isEmpty();
            }
        }
    }

    @Test
    @Timeout(value = 20, unit = TimeUnit.SECONDS)
    void sixteenTebibytesOfSparseBlobs() throws Exception {
        long blocks = (16L << 40) >> 12; // in two blobs, the second with its last block used
        List<Path> blobs = List.of(sparse("one", 8L << 40), sparse("two", 8L << 40));
        byte[] image = new ErofsBuilder(12)
                .incompat(0x8c)
                .slot("", 16, blocks / 2)
                .slot("", 16 + blocks / 2, blocks / 2)
                .file("last", 4096, 0, List.of(new Chunk(2, blocks / 2 - 1)))
                .build();
        try (ErofsImage composed = ErofsImages.fromFiles(Files.write(dir.resolve("meta"), image), blobs)) {
            assertThat(composed.flat().size()).isEqualTo((16L << 40) + 16 * 4096);
            assertThat(composed.flat().extentCount()).isLessThanOrEqualTo(4);
            assertThat(Walk.run(ErofsFileSystem.open("image", composed.flat())).problems())
                    .isEmpty();
        }
    }

    /** As much as a file of ext4 can hold; what is not a hole is a few blocks. */
    @Test
    @Timeout(value = 60, unit = TimeUnit.SECONDS)
    void exportOfFifteenTebibytesTakesTheTimeOfItsExtents() throws Exception {
        long half = (15L << 40) / 2;
        List<Path> blobs = List.of(sparse("one", half), sparse("two", half));
        byte[] data = new byte[4096];
        java.util.Arrays.fill(data, (byte) 'x');
        try (FileChannel end = FileChannel.open(blobs.get(1), StandardOpenOption.WRITE)) {
            end.write(ByteBuffer.wrap(data), half - data.length);
        }
        byte[] meta = new ErofsBuilder(12)
                .incompat(0x8c)
                .slot("", 16, half >> 12)
                .slot("", 32 + (half >> 12), half >> 12)
                .build();
        Path out = dir.resolve("out");
        try (ErofsImage image = ErofsImages.fromFiles(Files.write(dir.resolve("meta"), meta), blobs)) {
            RawExport.write(image.flat(), out, false, done -> {});
            assertThat(Files.size(out)).isEqualTo(image.flat().size());
        }
        try (FileChannel written = FileChannel.open(out)) {
            ByteBuffer last = ByteBuffer.allocate(4096);
            written.read(last, Files.size(out) - 4096);
            assertThat(last.array()).isEqualTo(data);
        }
    }

    /** One file of 134 million chunks: 1 GiB of metadata, nearly all of it holes of a sparse file. */
    @Test
    @Timeout(value = 120, unit = TimeUnit.SECONDS)
    void aGibibyteOfMetadataIsWalkedInTheTimeThatItsChunksTake() throws Exception {
        long bytes = 1L << 30;
        long chunks = (bytes - (1 << 20)) / 8;
        byte[] small = new ErofsBuilder(12)
                .slot("", bytes >> 12, 1)
                .file("huge", 4096, 0, List.of(new Chunk(1, 0)))
                .blocks(bytes >> 12)
                .build();
        // the file's inode moves to the end of the written part, so that its indexes are the rest of the metadata
        int inode = 1152 + 128 + 64;
        byte[] moved = java.util.Arrays.copyOf(small, 1 << 17);
        int to = 1 << 16;
        System.arraycopy(small, inode, moved, to, 64);
        ByteBuffer le = ByteBuffer.wrap(moved).order(ByteOrder.LITTLE_ENDIAN);
        le.putLong(to + 8, chunks << 12);
        int entry = 4096 + 2 * 12;
        assertThat(le.getLong(entry)).isEqualTo(inode / 32);
        le.putLong(entry, to / 32);
        ErofsBuilder.sign(moved);
        Path meta = Files.write(dir.resolve("meta"), moved);
        resize(meta, bytes);
        Path data = Files.write(dir.resolve("data"), new byte[4096]);
        try (FileChannel tail = FileChannel.open(meta, StandardOpenOption.WRITE)) {
            // chunks are {hi 0, device 0, block 0}: the first block of the metadata, which is there
            tail.write(ByteBuffer.wrap(new byte[8]), bytes - 8);
        }
        try (ErofsImage image = ErofsImages.fromFiles(meta, List.of(data))) {
            WalkReport report = Walk.run(ErofsFileSystem.open("image", image.flat()));
            System.out.printf("%d chunks in %d ms%n", report.chunks(), report.millis());
            assertThat(report.problems()).isEmpty();
            assertThat(report.chunks()).isEqualTo(chunks);
            assertThat(report.millis()).isLessThan(chunks / 1000); // 1 s for a million
        }
    }

    private Path sparse(String name, long bytes) throws IOException {
        Path path = Files.createFile(dir.resolve(name));
        resize(path, bytes);
        return path;
    }

    private static void resize(Path path, long bytes) throws IOException {
        int fd = Linux.open(path.toString(), Linux.O_RDWR);
        try {
            Linux.truncate(fd, bytes);
        } finally {
            Linux.close(fd);
        }
    }
}

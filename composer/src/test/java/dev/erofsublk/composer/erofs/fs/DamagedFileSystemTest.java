// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.erofs.ErofsBuilder;
import dev.erofsublk.composer.erofs.ErofsBuilder.Chunk;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.erofs.ErofsImages;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Images that lie: each lie is found, and no lie makes the reader loop, hang, run out of memory or throw anything else. */
class DamagedFileSystemTest {
    private static final int INODE = 1152 + 128; // the root, behind a table of one slot
    private static final int FILE = INODE + 64;
    private static final int DIRECTORY = 4096;

    @TempDir
    private Path dir;

    private final byte[] image = new ErofsBuilder(12)
            .slot("", 2, 4)
            .file("file", 8192, 0, List.of(new Chunk(1, 0), new Chunk(1, 3)))
            .build();
    private final ByteBuffer le = ByteBuffer.wrap(image).order(ByteOrder.LITTLE_ENDIAN);

    @Test
    void theSoundOneHasNoProblem() throws Exception {
        assertThat(problems()).isEmpty();
    }

    @Test
    void aDirectoryThatContainsItselfIsFoundAndNotEntered() throws Exception {
        le.putLong(DIRECTORY + 24, INODE / 32).put(DIRECTORY + 34, (byte) 2);
        assertThat(problems()).containsExactly("directory inode 40 is reached twice, expected one name for it (/file)");
    }

    @Test
    void aWrongParentIsFound() throws Exception {
        le.putLong(DIRECTORY + 12, FILE / 32);
        assertThat(problems()).containsExactly("entry \"..\" of directory inode 40 is inode 42, expected inode 40 (/)");
    }

    @Test
    void aTypeThatTheInodeHasNotIsFound() throws Exception {
        le.put(DIRECTORY + 34, (byte) 7);
        assertThat(problems())
                .containsExactly("file_type of the entry of inode 42 is 7, expected 1, as its mode says (/file)");
    }

    @Test
    void aModeThatLinuxHasNotIsFound() throws Exception {
        le.putShort(FILE + 4, (short) 0);
        assertThat(problems()).containsExactly("i_mode of inode 42 is 00, expected a type that Linux has (/file)");
    }

    @Test
    void anUnknownLayoutIsFound() throws Exception {
        le.putShort(FILE, (short) (1 | 5 << 1));
        assertThat(problems())
                .containsExactly("i_format of inode 42 is 0xb, expected a layout of 0 to 4 and no bit above 4 (/file)");
    }

    @Test
    void anUnknownChunkFormatIsFound() throws Exception {
        le.putInt(FILE + 16, 0x1020);
        assertThat(problems())
                .containsExactly("chunk format of inode 42 is 0x1020, expected no bit above 0x40 (/file)");
    }

    @Test
    void aFileWithMoreChunksThanMetadataIsFound() throws Exception {
        le.putLong(FILE + 8, Long.MAX_VALUE);
        assertThat(problems().getFirst())
                .contains("i_size of inode 42 is 9223372036854775807, 2251799813685248 chunks");
    }

    @Test
    void namesOutOfOrderAreFound() throws Exception {
        image[DIRECTORY + 36 + 3] = '!'; // ".", "..", "file"
        assertThat(problems())
                .containsExactly(
                        "name in block 0 of directory inode 40 is \"!ile\", expected one that sorts behind \"..\" (/)");
    }

    @Test
    void aNameWithASlashIsFound() throws Exception {
        image[DIRECTORY + 36 + 4] = '/';
        assertThat(problems().getFirst()).contains("expected 1 to 255 bytes without NUL and slash");
    }

    @Test
    void anOffsetOutsideTheBlockIsFound() throws Exception {
        le.putShort(DIRECTORY + 32, (short) 4000);
        assertThat(problems().getFirst()).contains("nameoff in block 0 of directory inode 40 is ");
        le.putShort(DIRECTORY + 8, (short) 13);
        assertThat(problems().getFirst()).contains("first nameoff in block 0 of directory inode 40 is 13");
    }

    @Test
    void anInodeOutsideTheMetadataIsFound() throws Exception {
        le.putLong(DIRECTORY + 24, 1L << 40);
        assertThat(problems())
                .containsExactly("nid is 1099511627776, expected less than 256: an inode in the" + " metadata (/file)");
    }

    @Test
    void attributesThatEndBehindTheirRoomAreFound() throws Exception {
        le.putShort(FILE + 2, (short) 3); // 12 + 8 bytes
        le.putLong(FILE + 64, 0).putLong(FILE + 72, 0);
        le.put(FILE + 64 + 12, (byte) 200).put(FILE + 64 + 13, (byte) 1);
        assertThat(problems().getFirst())
                .contains("xattr at byte 12 of inode 42 is ending at byte 216, expected within 20");
    }

    @Test
    void inodesThatShareTheirMetadataAreFound() throws Exception {
        // two hundred files, all of whose indexes are the same megabyte
        ErofsBuilder builder = new ErofsBuilder(12).slot("", 400, 4);
        for (int i = 0; i < 200; i++) {
            builder.file("f%03d".formatted(i), (1L << 20) / 8 * 4096, 0, List.of());
        }
        byte[] shared = builder.padding(1 << 20).build();
        assertThat(problems(shared))
                .anySatisfy(
                        problem -> assertThat(problem).contains("expected inodes and directories that do not overlap"));
    }

    @Test
    void symbolicLinksThatGoInCirclesAreRefused() throws Exception {
        byte[] looped = image.clone();
        ByteBuffer inode = ByteBuffer.wrap(looped).order(ByteOrder.LITTLE_ENDIAN);
        inode.putShort(FILE, (short) (1 | 2 << 1))
                .putShort(FILE + 4, (short) 0120777)
                .putLong(FILE + 8, 4);
        inode.put(FILE + 64, new byte[] {'f', 'i', 'l', 'e'});
        ErofsBuilder.sign(looped);
        try (ErofsImage composed = compose(looped)) {
            ErofsFileSystem fs = ErofsFileSystem.open("image", composed.flat());
            assertThat(fs.resolve("/file", false)).isPresent();
            assertThatThrownBy(() -> fs.resolve("/file", true))
                    .isInstanceOf(ImageException.class)
                    .hasMessageContaining("more than 40 symbolic links");
        }
    }

    /** Bytes of the metadata changed at random, the checksum made right again: nothing but the refusal comes out. */
    @ParameterizedTest
    @EnumSource(names = {"A", "B", "C", "C48", "PLAIN"})
    @Timeout(value = 120, unit = TimeUnit.SECONDS)
    void mutatedMetadataGivesARefusalOrATree(Kind kind) throws Exception {
        byte[] sound = Files.readAllBytes(kind.meta());
        int metadata = Math.min(sound.length, 24576);
        long seed = System.nanoTime();
        System.out.println(kind + " seed " + seed);
        Random random = new Random(seed);
        int opened = 0;
        for (int round = 0; round < 300; round++) {
            byte[] mutated = sound.clone();
            boolean superblock = random.nextInt(4) == 0;
            for (int i = random.nextInt(8); i >= 0; i--) {
                int at = superblock ? 1032 + random.nextInt(280) : 1300 + random.nextInt(metadata - 1300);
                mutated[at] =
                        (byte) (random.nextBoolean() ? random.nextInt(256) : mutated[at] ^ 1 << random.nextInt(8));
            }
            mutated[1032] &= ~1; // no checksum
            Path meta = Files.write(dir.resolve("meta"), mutated);
            long start = System.nanoTime();
            try (ErofsImage composed = ErofsImages.fromFiles(meta, kind.blobs())) {
                readAll(ErofsFileSystem.open("image", composed.flat()));
                opened++;
            } catch (ImageException refused) {
                assertThat(refused.getMessage()).contains("expected").doesNotContain("\n");
            } catch (RuntimeException | Error e) {
                throw new AssertionError(kind + " seed " + seed + " round " + round, e);
            }
            assertThat(System.nanoTime() - start)
                    .as("seed %d round %d", seed, round)
                    .isLessThan(TimeUnit.SECONDS.toNanos(10));
        }
        assertThat(opened).isPositive();
    }

    private static void readAll(ErofsFileSystem fs) throws IOException {
        WalkReport report = Walk.start(fs, 1).report().join();
        assertThat(report.problems()).allSatisfy(p -> assertThat(p.message()).contains("expected"));
        ReverseIndex index = ReverseIndex.build(fs);
        index.in(0, fs.flat().size());
        for (DirectoryEntry entry : fs.list(fs.root())) {
            try {
                Inode inode = fs.inode(entry.nid());
                fs.xattrs(inode);
                if (inode.type() == Type.REGULAR && inode.size() < 1 << 20) {
                    fs.copyTo(inode, new ByteArrayOutputStream());
                }
            } catch (ImageException refused) {
                assertThat(refused.field()).isNotEmpty();
            }
        }
    }

    private ErofsImage compose(byte[] bytes) throws IOException {
        Path meta = Files.write(dir.resolve("meta"), bytes);
        return ErofsImages.fromFiles(meta, List.of(Files.write(dir.resolve("blob"), new byte[16384])));
    }

    private List<String> problems() throws IOException {
        ErofsBuilder.sign(image);
        return problems(image);
    }

    private List<String> problems(byte[] bytes) throws IOException {
        try (ErofsImage composed = compose(bytes)) {
            WalkReport report = Walk.run(ErofsFileSystem.open("image", composed.flat()));
            return report.problems().stream()
                    .map(problem -> problem.toString().substring("image: ".length()))
                    .toList();
        }
    }
}

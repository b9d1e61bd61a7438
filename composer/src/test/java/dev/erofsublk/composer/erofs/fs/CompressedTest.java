// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.erofs.ErofsImages;
import dev.erofsublk.composer.erofs.fs.KernelViewTest.LoopMount;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Compressed images of every kind that erofs-utils makes show the tree they were made of. */
class CompressedTest {
    @TempDir
    private static Path tree;

    @TempDir
    private Path dir;

    @BeforeAll
    static void makeTree() throws IOException {
        Random random = new Random(42);
        Files.writeString(tree.resolve("empty"), "");
        Files.writeString(tree.resolve("one"), "1");
        for (int size : new int[] {100, 511, 512, 513, 4095, 4096, 4097, 10_000, 65_536, 200_001, 1_500_000}) {
            text(random, "text-" + size, size);
            noise(random, "noise-" + size, size);
            mixed(random, "mixed-" + size, size);
        }
        Files.write(tree.resolve("zeros"), new byte[1_000_000]);
        Files.createDirectory(tree.resolve("many"));
        for (int i = 0; i < 300; i++) {
            text(random, "many/file" + i, random.nextInt(9000));
        }
        // what -Ededupe finds: the same bytes in other places
        byte[] all = Files.readAllBytes(tree.resolve("text-1500000"));
        Files.write(tree.resolve("copy"), all);
        Files.write(tree.resolve("shifted"), Arrays.copyOfRange(all, 777, 1_200_000));
    }

    private static void text(Random random, String name, int size) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        while (out.size() < size) {
            out.write(("line " + random.nextInt(2000) + " of a file that can be compressed\n")
                    .getBytes(StandardCharsets.US_ASCII));
        }
        Files.write(tree.resolve(name), Arrays.copyOf(out.toByteArray(), size));
    }

    private static void noise(Random random, String name, int size) throws IOException {
        byte[] bytes = new byte[size];
        random.nextBytes(bytes);
        Files.write(tree.resolve(name), bytes);
    }

    private static void mixed(Random random, String name, int size) throws IOException {
        byte[] bytes = new byte[size];
        for (int at = 0; at < size; ) {
            int part = Math.min(size - at, 1 + random.nextInt(30_000));
            if (random.nextBoolean()) {
                byte[] some = new byte[part];
                random.nextBytes(some);
                System.arraycopy(some, 0, bytes, at, part);
            } else {
                Arrays.fill(bytes, at, at + part, (byte) random.nextInt(5));
            }
            at += part;
        }
        Files.write(tree.resolve(name), bytes);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "-zlz4",
                "-zlz4 -Elegacy-compress",
                "-zlz4 -C65536",
                "-zlz4 -C65536 -Elegacy-compress",
                "-zlz4hc -C1048576",
                "-zlz4 -Eztailpacking",
                "-zlz4 -Eztailpacking -C16384",
                "-zlz4 -Efragments",
                "-zlz4 -Eall-fragments -C65536",
                "-zlz4 -Ededupe",
                "-zlz4 -Ededupe,fragments,ztailpacking -C32768",
                "-zlz4 --zD=1",
                "-zlz4 -b512",
                "-zlz4 -b1024 -C8192",
                "-zlzma",
                "-zlzma -C65536 -Eztailpacking",
                "-zlzma -C65536 -Efragments",
                "-zdeflate",
                "-zdeflate -C65536 -Eztailpacking",
                "-zdeflate -C65536 -Ededupe,all-fragments",
                "-zzstd",
                "-zzstd -C65536 -Eztailpacking",
                "-zzstd -C131072 -Efragments,dedupe",
            })
    void compressedImageShowsItsSourceTree(String options) throws Exception {
        Path image = make(options, tree);
        try (ErofsImage composed = ErofsImages.fromFiles(image, List.of())) {
            ErofsFileSystem fs = ErofsFileSystem.open("image", composed.flat());
            assertThat(TreeListing.differences(TreeListing.ofImage(fs, false), TreeListing.ofDirectory(tree, false)))
                    .isEmpty();
            assertThat(Walk.run(fs).problems()).isEmpty();
            assertThat(isAnyCompressed(fs)).isTrue();
        }
    }

    /** Bytes of metadata and of compressed data changed at random: a refusal or some bytes, and nothing else. */
    @ParameterizedTest
    @ValueSource(
            strings = {
                "-zlz4 -Eztailpacking,fragments,dedupe -C16384",
                "-zlz4 -Elegacy-compress -C65536",
                "-zlzma -Efragments",
                "-zdeflate -Eztailpacking",
                "-zzstd -C65536"
            })
    @Timeout(value = 180, unit = TimeUnit.SECONDS)
    void mutatedImageGivesARefusalOrBytes(String options) throws Exception {
        Path small = Files.createDirectory(dir.resolve("small"));
        for (String name : List.of("text-200001", "mixed-65536", "noise-10000", "text-513", "one")) {
            Files.copy(tree.resolve(name), small.resolve(name));
        }
        Path image = make(options, small);
        byte[] sound = Files.readAllBytes(image);
        long seed = System.nanoTime();
        System.out.println(options + " seed " + seed);
        Random random = new Random(seed);
        int refusals = 0;
        for (int round = 0; round < 200; round++) {
            byte[] mutated = sound.clone();
            for (int i = random.nextInt(6); i >= 0; i--) {
                int at = 1160 + random.nextInt((random.nextBoolean() ? 4096 : mutated.length) - 1160);
                mutated[at] =
                        (byte) (random.nextBoolean() ? random.nextInt(256) : mutated[at] ^ 1 << random.nextInt(8));
            }
            mutated[1032] &= ~1; // no checksum
            Files.write(image, mutated);
            try (ErofsImage composed = ErofsImages.fromFiles(image, List.of())) {
                ErofsFileSystem fs = ErofsFileSystem.open("image", composed.flat());
                assertThat(Walk.start(fs, 1).report().join().problems())
                        .allSatisfy(problem -> assertThat(problem.message()).contains("expected"));
                for (DirectoryEntry entry : fs.list(fs.root())) {
                    refusals += isRefused(fs, entry) ? 1 : 0;
                }
            } catch (ImageException refused) {
                refusals++;
            } catch (RuntimeException | Error e) {
                throw new AssertionError("seed " + seed + " round " + round, e);
            }
        }
        assertThat(refusals).isPositive();
    }

    private static boolean isRefused(ErofsFileSystem fs, DirectoryEntry entry) throws IOException {
        try {
            Inode inode = fs.inode(entry.nid());
            if (inode.type() == Type.REGULAR && inode.size() < 1 << 22) {
                fs.copyTo(inode, new ByteArrayOutputStream());
            }
            return false;
        } catch (ImageException refused) {
            return true;
        }
    }

    private Path make(String options, Path from) throws IOException {
        Path image = dir.resolve("image");
        List<String> command = new ArrayList<>(
                List.of(KernelViewTest.tool("erofs-utils", "mkfs.erofs"), "--quiet", "-T1700000000", "-Uclear"));
        command.addAll(List.of(options.split(" ", -1)));
        command.addAll(List.of(image.toString(), from.toString()));
        LoopMount.run(command);
        return image;
    }

    private static boolean isAnyCompressed(ErofsFileSystem fs) throws IOException {
        for (DirectoryEntry entry : fs.list(fs.root())) {
            if (fs.inode(entry.nid()).isCompressed()) {
                return true;
            }
        }
        return false;
    }
}

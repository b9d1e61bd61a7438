// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.verity;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.disk.Contents;
import dev.erofsublk.composer.erofs.ErofsImages;
import dev.erofsublk.composer.export.RawExport;
import dev.erofsublk.composer.source.ImageSource;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class VerityTreeTest {
    @TempDir
    private Path dir;

    @ParameterizedTest
    @EnumSource
    void veritysetupAcceptsTheTreeAndRefusesAChangedByte(Kind kind) throws Exception {
        String program = veritysetup();
        Path out = dir.resolve("out");
        Salt salt = kind == Kind.B ? new Salt("00ff10aa") : Salt.NONE;
        try (VerityImage image =
                VerityImage.of(ErofsImages.fromFiles(kind.meta(), kind.blobs()), salt, 3, done -> {})) {
            RawExport.write(image.flat(), out, false, done -> {});
            List<String> command = new ArrayList<>(List.of(
                    program,
                    "verify",
                    out.toString(),
                    out.toString(),
                    image.tree().rootHash()));
            command.addAll(List.of(image.tree().options().split(" ", -1)));
            assertThat(run(command)).isZero();
            for (long at : new long[] {5000, image.tree().geometry().treeOffset() + 5}) {
                flip(out, at);
                assertThat(run(command)).as("byte %d changed", at).isNotZero();
                flip(out, at);
            }
            assertThat(image.tree().openCommand("/dev/ublkb0", "root"))
                    .startsWith("veritysetup open /dev/ublkb0 root /dev/ublkb0 "
                            + image.tree().rootHash() + " --no-superblock");
        }
    }

    /** What a device with a tree serves is what an export with one is, and whoever opens it again serves the same. */
    @ParameterizedTest
    @EnumSource
    void aSourceWithATreeYieldsTheExportsBytesEachTimeItIsOpened(Kind kind) throws Exception {
        ImageSource data = new ImageSource(null, kind.meta(), kind.blobs(), null, null, List.of(), null);
        Path out = dir.resolve("out");
        Salt salt = new Salt("0123");
        try (Image image = data.open();
                VerityImage tree = VerityImage.of(image, salt, 2, done -> {})) {
            RawExport.write(tree.flat(), out, false, done -> {});
        }
        for (int i = 0; i < 2; i++) {
            try (Image image = data.withVerity(salt).open();
                    AddressSpace space = AddressSpace.map(image.flat())) {
                assertThat(Contents.mismatch(image.flat(), out)).isEqualTo(-1);
                assertThat(space.size()).isEqualTo(Files.size(out));
                assertThat(image.flat().sources().stream()
                                .filter(source -> source instanceof Blob blob && blob.isOwn()))
                        .hasSize(1);
            }
        }
    }

    /** Against a tree made in the plainest way, from the kernel's documentation. */
    @ParameterizedTest
    @CsvSource({
        "1, 512",
        "1, 4096",
        "8, 4096",
        "1024, 4096",
        "1025, 4096",
        "1032, 4096",
        "200000, 4096",
        "127, 512",
        "128, 512",
        "129, 512",
        "16384, 512",
        "16385, 512",
        "40000, 512"
    })
    void treeIsTheSimpleOne(int sectors, int block) throws Exception {
        long seed = System.nanoTime();
        System.out.println("seed " + seed);
        byte[] data = new byte[sectors * 512];
        new Random(seed).nextBytes(data);
        Arrays.fill(data, data.length / 2, data.length / 2 + Math.min(data.length / 2, 100_000), (byte) 0);
        byte[] salt = new byte[(int) (seed & 31)];
        FlatImage flat = FlatImage.builder(512)
                .append(data.length, new Bytes("data", data), 0)
                .build();
        VerityTree tree = VerityTree.build(flat, block, new Salt(HexFormat.of().formatHex(salt)), 2, done -> {});
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bytes = arena.allocate(Math.max(1, tree.blob().size()));
            bytes = bytes.asSlice(0, tree.blob().size());
            tree.blob().read(0, bytes);
            List<byte[]> levels = simple(data, block, salt);
            ByteArrayOutputStream expected = new ByteArrayOutputStream();
            for (byte[] level : levels.reversed().subList(1, levels.size())) {
                expected.write(level);
            }
            assertThat(bytes.toArray(ValueLayout.JAVA_BYTE)).isEqualTo(expected.toByteArray());
            assertThat(tree.rootHash()).isEqualTo(HexFormat.of().formatHex(levels.getLast()));
        } finally {
            tree.blob().close();
        }
    }

    @Test
    void holesAreHashedWithoutBeingRead() throws Exception {
        byte[] data = new byte[8 << 20];
        FlatImage flat = FlatImage.builder(4096)
                .append(data.length, new Bytes("zeros", data), 0)
                .build();
        FlatImage holes = FlatImage.builder(4096).zeros(data.length).build();
        VerityTree one = VerityTree.build(flat, 4096, new Salt("01"), 2, done -> {});
        VerityTree two = VerityTree.build(holes, 4096, new Salt("01"), 2, done -> {});
        assertThat(one.rootHash()).isEqualTo(two.rootHash());
        one.blob().close();
        two.blob().close();
    }

    @Test
    void geometryHasTheTopLevelFirst() {
        VerityGeometry geometry = VerityGeometry.of(4096L * 128 * 128 + 1, 4096);
        assertThat(geometry.dataBlocks()).isEqualTo(128 * 128 + 1);
        assertThat(geometry.levels())
                .containsExactly(
                        new VerityGeometry.Level(3 * 4096, 129),
                        new VerityGeometry.Level(4096, 2),
                        new VerityGeometry.Level(0, 1));
        assertThat(geometry.treeOffset()).isEqualTo(4096L * (128 * 128 + 1));
    }

    /** Level 0, then the ones above it, then the root hash. */
    private static List<byte[]> simple(byte[] data, int block, byte[] salt) throws Exception {
        List<byte[]> levels = new ArrayList<>();
        byte[] below = Arrays.copyOf(data, (data.length + block - 1) / block * block);
        int size = block;
        while (true) {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            ByteArrayOutputStream level = new ByteArrayOutputStream();
            for (int at = 0; at < below.length; at += size) {
                digest.update(salt);
                digest.update(below, at, size);
                level.write(digest.digest());
            }
            if (level.size() == 32) {
                levels.add(level.toByteArray());
                return levels;
            }
            below = Arrays.copyOf(level.toByteArray(), (level.size() + 4095) / 4096 * 4096);
            levels.add(below);
            size = 4096;
        }
    }

    private static String veritysetup() {
        for (String directory : (System.getenv("PATH") + ":/usr/sbin:/sbin").split(":", -1)) {
            Path program = Path.of(directory, "veritysetup");
            if (Files.isExecutable(program)) {
                return program.toString();
            }
        }
        assumeTrue(false, "not run: there is no veritysetup (package cryptsetup-bin) on PATH");
        throw new IllegalStateException();
    }

    private static int run(List<String> command) throws IOException {
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        int status = process.onExit().join().exitValue();
        if (status != 0) {
            System.out.println(output);
        }
        return status;
    }

    private static void flip(Path file, long at) throws IOException {
        try (var channel =
                java.nio.channels.FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            var one = java.nio.ByteBuffer.allocate(1);
            channel.read(one, at);
            one.put(0, (byte) (one.get(0) ^ 1)).rewind();
            channel.write(one, at);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Contents;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Random;
import java.util.UUID;
import java.util.function.Consumer;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class VhdImageTest {
    private static final int BLOCK = 64 << 10;
    private static final int SIZE = 4 * BLOCK - 4096;

    @TempDir
    private Path folder;

    private final Random random = new Random(5);
    private final byte[] content = bytes(SIZE);

    // Dynamic disks.

    @Test
    void aDynamicDiskHasZerosWhereNothingWasEverWritten() throws IOException {
        BitSet odd = new BitSet();
        for (int i = 1; i < BLOCK / 512; i += 2) {
            odd.set(i);
        }
        Path path = new VhdBuilder(SIZE, BLOCK)
                .block(2, piece(content, 2))
                .block(0, odd, piece(content, 0))
                .write(folder.resolve("disk.vhd"));

        Arrays.fill(content, BLOCK, 2 * BLOCK, (byte) 0);
        Arrays.fill(content, 3 * BLOCK, SIZE, (byte) 0);
        for (int i = 0; i < BLOCK; i += 1024) {
            Arrays.fill(content, i, i + 512, (byte) 0);
        }
        assertContent(path, content);
    }

    @Test
    void theCopyServesWhereTheFootersAreDamagedOrCutOff() throws IOException {
        ByteBuffer file = dynamic().build();
        int footer = file.capacity() - 512;
        for (int damage : new int[] {0, 30, 64, 511}) {
            ByteBuffer damaged = copy(file);
            damaged.put(footer + damage, (byte) (damaged.get(footer + damage) ^ 1));
            assertContent(write(damaged), content);
        }
        assertContent(write(ByteBuffer.wrap(Arrays.copyOf(VhdBuilder.bytes(file), footer))), content);
    }

    @Test
    void theFooterServesWhereTheCopyIsDamaged() throws IOException {
        ByteBuffer file = dynamic().build();
        file.put(0, (byte) 'C'); // QEMU: invalid VPC image
        assertContent(write(file), content);
    }

    @Test
    void footersThatContradictEachOtherAreRefused() throws IOException {
        ByteBuffer file = dynamic().build();
        file.putLong(48, SIZE - 4096);
        VhdBuilder.seal(file, 0, 512, 64);
        assertRefused(write(file), "footer copy.content is other than that of the footer");
    }

    @Test
    void aFooterOf511BytesIsOneOfVirtualPcBefore2004() throws IOException {
        byte[] dynamic = VhdBuilder.bytes(dynamic().build());
        assertContent(write(ByteBuffer.wrap(Arrays.copyOf(dynamic, dynamic.length - 1))), content);
        byte[] fixed = VhdBuilder.bytes(fixed(content));
        assertContent(write(ByteBuffer.wrap(Arrays.copyOf(fixed, fixed.length - 1))), content);
    }

    @ParameterizedTest
    @ValueSource(ints = {4096, 65536, 524288, 2097152})
    void allBlockSizesAreRead(int blockSize) throws IOException {
        int size = 3 * blockSize;
        byte[] expected = bytes(size);
        VhdBuilder disk = new VhdBuilder(size, blockSize);
        for (int i = 2; i >= 0; i--) {
            disk.block(i, Arrays.copyOfRange(expected, i * blockSize, (i + 1) * blockSize));
        }
        assertContent(disk.write(folder.resolve("disk.vhd")), expected);
    }

    // Fixed disks and the size rule.

    @Test
    void aFixedDiskIsTheBytesBeforeItsFooter() throws IOException {
        assertContent(write(fixed(content)), content);
    }

    @Test
    void aFixedDiskWhoseSizeIsNotThatOfTheFileIsRefused() throws IOException {
        ByteBuffer file = fixed(content);
        VhdBuilder.footer(file, SIZE, SIZE - 512, 2, -1);
        assertRefused(write(file), "current size is 257536, expected the 258048 bytes in front of the footer");
        VhdBuilder.footer(file, SIZE, SIZE + 512, 2, -1);
        assertRefused(write(file), "current size is 258560");
    }

    @Test
    void aFixedDiskHasNoCopyOfItsFooter() throws IOException {
        ByteBuffer file = fixed(content);
        VhdBuilder.footer(file, 0, SIZE, 2, -1); // the guest's own bytes
        assertContentStartsWithItself(file);
        file.put(SIZE, (byte) 0);
        assertRefused(write(file), "no cookie at the end, a fixed disk's at the start");
    }

    @ParameterizedTest
    @CsvSource({
        // creator, cylinders, heads, sectors, size: facts/vmdisk.md §0.9; current size 4 MiB = 8192 sectors
        "'win ', 1, 1, 1, 4194304",
        "qem2, 0, 0, 0, 4194304",
        "'d2v ', 1, 1, 1, 4194304",
        "CTXS, 1, 1, 1, 4194304",
        "'tap\0', 1, 1, 1, 4194304",
        "vbox, 16383, 16, 63, 4194304",
        "abcd, 65535, 16, 255, 4194304",
        "qemu, 120, 4, 17, 4177920",
        "'vpc ', 8192, 1, 1, 4194304",
        "'vs  ', 60, 8, 17, 4177920",
    })
    void theSizeIsThatOfTheGeometryButForCreatorsWhoMeanTheCurrentSize(
            String creator, int cylinders, int heads, int sectors, long size) throws IOException {
        assertThat(sized(creator, cylinders, heads, sectors)).isEqualTo(size);
    }

    @ParameterizedTest
    @CsvSource({"0, 4, 17", "121, 4, 17", "119, 4, 17", "65535, 16, 254", "120, 0, 17", "1, 1, 1"})
    void aGeometryFarFromTheCurrentSizeIsRefused(int cylinders, int heads, int sectors) {
        assertThatThrownBy(() -> sized("qemu", cylinders, heads, sectors))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("footer.disk geometry is " + cylinders + "/" + heads + "/" + sectors);
    }

    private long sized(String creator, int cylinders, int heads, int sectors) throws IOException {
        ByteBuffer file = fixed(new byte[4 << 20]);
        int footer = 4 << 20;
        file.put(footer + 28, creator.getBytes(StandardCharsets.US_ASCII));
        file.putShort(footer + 56, (short) cylinders)
                .put(footer + 58, (byte) heads)
                .put(footer + 59, (byte) sectors);
        VhdBuilder.seal(file, footer, 512, 64);
        try (VhdImage image = VhdImage.open(write(file), Confinement.OWN_FOLDER)) {
            return image.flat().size();
        }
    }

    // Differencing disks.

    @Test
    void eachSectorOfAChildComesFromWhereItsBitSays() throws IOException {
        dynamic().write(folder.resolve("parent.vhd"));
        BitSet here = new BitSet();
        for (int i = 0; i < BLOCK / 512; i++) {
            here.set(i, random.nextBoolean());
        }
        byte[] own = bytes(BLOCK);
        Path child = new VhdBuilder(SIZE, BLOCK)
                .uuid(UUID.randomUUID())
                .childOf(".\\parent.vhd", VhdBuilder.ID)
                .block(1, here, own)
                .block(3, new BitSet(), own)
                .write(folder.resolve("child.avhd"));

        here.stream().forEach(i -> System.arraycopy(own, i * 512, content, BLOCK + i * 512, 512));
        assertContent(child, content);
    }

    @Test
    void aChainOfThreeAndAFixedParent() throws IOException {
        Files.write(folder.resolve("parent.vhd"), VhdBuilder.bytes(fixed(content)));
        byte[] own = bytes(BLOCK);
        new VhdBuilder(SIZE, 2 * BLOCK)
                .uuid(new UUID(1, 1))
                .childOf("parent.vhd", VhdBuilder.ID)
                .write(folder.resolve("middle.avhd"));
        Path child = new VhdBuilder(SIZE, BLOCK)
                .uuid(new UUID(2, 2))
                .childOf("middle.avhd", new UUID(1, 1))
                .block(0, own)
                .write(folder.resolve("child.avhd"));

        System.arraycopy(own, 0, content, 0, BLOCK);
        assertContent(child, content);
    }

    @Test
    void theHeadersNameServesWhereNoLocatorLeadsToAFile() throws IOException {
        dynamic().write(folder.resolve("parent.vhd"));
        Path child = new VhdBuilder(SIZE, BLOCK)
                .uuid(UUID.randomUUID())
                .childOf("..\\elsewhere\\parent.vhd", VhdBuilder.ID)
                .parentName("D:\\vm\\parent.vhd")
                .write(folder.resolve("child.avhd"));

        assertContent(child, content);
    }

    @Test
    void aParentThatIsNotTheOneIsRefused() throws IOException {
        dynamic().write(folder.resolve("parent.vhd"));
        VhdBuilder child = new VhdBuilder(SIZE, BLOCK).uuid(UUID.randomUUID()).childOf("parent.vhd", new UUID(3, 3));
        assertRefused(child.write(folder.resolve("child.avhd")), "footer.UUID", "the child's parent UUID");

        child = new VhdBuilder(SIZE + 512, BLOCK).uuid(UUID.randomUUID()).childOf("parent.vhd", VhdBuilder.ID);
        assertRefused(child.write(folder.resolve("child.avhd")), "footer.current size is 258048, expected that of");

        child = new VhdBuilder(SIZE, BLOCK).childOf("child.avhd", VhdBuilder.ID);
        assertRefused(child.write(folder.resolve("child.avhd")), "parent chain");

        child = new VhdBuilder(SIZE, BLOCK).childOf("none.vhd", VhdBuilder.ID);
        assertRefused(child.write(folder.resolve("child.avhd")), "none.vhd", "a file that exists");

        child = new VhdBuilder(SIZE, BLOCK).childOf("..\\..\\etc\\passwd", VhdBuilder.ID);
        assertRefused(child.write(folder.resolve("child.avhd")), "file reference", "a file below");

        child = new VhdBuilder(SIZE, BLOCK).childOf("", VhdBuilder.ID);
        assertRefused(child.write(folder.resolve("child.avhd")), "parent name is empty");
    }

    // Split files.

    @ParameterizedTest
    @ValueSource(ints = {1024, 66048, 100864})
    void aSplitDiskIsReadThroughAllOfItsParts(int partSize) throws IOException {
        for (byte[] whole : new byte[][] {VhdBuilder.bytes(dynamic().build()), VhdBuilder.bytes(fixed(content))}) {
            int parts = split(whole, partSize * (whole.length / partSize > 60 ? 16 : 1));
            assertThat(parts).isGreaterThan(1);
            assertContent(folder.resolve("disk.vhd"), content);
        }
    }

    @Test
    void aMissingPartIsNoticed() throws IOException {
        int parts = split(VhdBuilder.bytes(dynamic().build()), 66048);
        assertThat(parts).isEqualTo(5);
        Files.delete(folder.resolve("disk.v02"));
        assertRefused(folder.resolve("disk.vhd"), "BAT entry");
    }

    @Test
    void aPartBesideACompleteFileIsRefused() throws IOException {
        dynamic().write(folder.resolve("disk.vhd"));
        Files.write(folder.resolve("disk.v01"), new byte[512]);
        assertRefused(folder.resolve("disk.vhd"), "split file is complete, with a footer, beside disk.v01");
    }

    @Test
    void aPartOfHalfSectorsIsRefused() throws IOException {
        split(VhdBuilder.bytes(fixed(content)), 66048);
        Files.write(folder.resolve("disk.v01"), new byte[1023]);
        assertRefused(folder.resolve("disk.vhd"), "disk.v01: split file is 1023 bytes, part 2");
    }

    @Test
    void aPartThatIsALinkToElsewhereIsNotOpened() throws IOException {
        Path inner = Files.createDirectories(folder.resolve("inner"));
        byte[] whole = VhdBuilder.bytes(fixed(content));
        Files.write(inner.resolve("disk.vhd"), Arrays.copyOf(whole, 1024));
        Files.write(folder.resolve("rest"), Arrays.copyOfRange(whole, 1024, whole.length));
        Files.createSymbolicLink(inner.resolve("disk.v01"), folder.resolve("rest"));
        assertRefused(inner.resolve("disk.vhd"), "file reference is \"disk.v01\"");
    }

    private int split(byte[] whole, int partSize) throws IOException {
        int parts = 0;
        for (int i = 1; i < 64; i++) {
            Files.deleteIfExists(folder.resolve("disk.v%02d".formatted(i)));
        }
        for (int at = 0; at < whole.length; at += partSize) {
            String name = parts == 0 ? "disk.vhd" : "disk.v%02d".formatted(parts);
            Files.write(folder.resolve(name), Arrays.copyOfRange(whole, at, Math.min(whole.length, at + partSize)));
            parts++;
        }
        return parts;
    }

    // What QEMU 7.2 refuses, and what it does not check.

    @Test
    void unusableFootersAreRefused() throws IOException {
        assertRefused(write(ByteBuffer.allocate(0)), "size is 0");
        assertRefused(write(ByteBuffer.allocate(511)), "size is 511");
        assertRefused(write(ByteBuffer.allocate(1000)), "size is 1000");
        assertRefused(write(ByteBuffer.allocate(4096)), "no cookie at the end, no cookie at the start");
        assertRefused(footer(file -> file.put(511, (byte) 1), false), "a wrong checksum at the end, a wrong checksum");
        assertRefused(footer(file -> file.putInt(8, 0), true), "features is 0x0");
        assertRefused(footer(file -> file.putInt(8, 6), true), "features is 0x6");
        assertRefused(footer(file -> file.putInt(12, 0x20000), true), "version is 0x20000");
        assertRefused(footer(file -> file.putInt(60, 5), true), "disk type is 5");
        assertRefused(footer(file -> file.putInt(60, 0), true), "disk type is 0");
        assertRefused(footer(file -> file.put(84, (byte) 2), true), "saved state is 2");
        assertRefused(footer(file -> file.putLong(48, 0), true), "current size is 0");
        assertRefused(footer(file -> file.putLong(48, 513), true), "current size is 513");
        assertRefused(footer(file -> file.putLong(48, -512), true), "current size is 18446744073709551104");
        assertRefused(footer(file -> file.putLong(16, 513), true), "data offset is 513");
        assertRefused(
                footer(file -> file.putLong(16, -512), true), "dynamic header is 1024 bytes at byte 184467440737");
        assertRefused(footer(file -> file.putInt(60, 4), true), "parent name is empty");
    }

    @Test
    void aSavedStateOrATemporaryDiskChangesNoByte() throws IOException {
        assertContent(footer(file -> file.put(84, (byte) 1), true), content);
        assertContent(footer(file -> file.putInt(8, 3), true), content);
    }

    @Test
    void unusableDynamicHeadersAreRefused() throws IOException {
        assertRefused(header(file -> file.put(512, (byte) 'C')), "dynamic header.cookie is \"Cxsparse\"");
        assertRefused(header(file -> file.putInt(512 + 24, 1)), "dynamic header.version is 0x1");
        assertRefused(header(file -> file.putInt(512 + 28, 0)), "max table entries is 0");
        assertRefused(header(file -> file.putInt(512 + 28, -1)), "max table entries is 4294967295");
        assertRefused(header(file -> file.putInt(512 + 28, 3)), "max table entries is 3, expected enough");
        assertRefused(header(file -> file.putInt(512 + 32, 0)), "block size is 0");
        assertRefused(header(file -> file.putInt(512 + 32, 512)), "block size is 512");
        assertRefused(header(file -> file.putInt(512 + 32, 65535)), "block size is 65535");
        assertRefused(header(file -> file.putInt(512 + 32, 1 << 31)), "block size is 2147483648");
        assertRefused(header(file -> file.putLong(512 + 16, 1537)), "table offset is 1537");
        assertRefused(header(file -> file.putLong(512 + 16, 1L << 40)), "BAT is 16 bytes at byte 1099511627776");
        ByteBuffer file = dynamic().build();
        file.put(512 + 100, (byte) 1);
        assertRefused(write(file), "dynamic header.checksum");
    }

    @Test
    void unusableTablesAreRefused() throws IOException {
        assertRefused(header(file -> file.putInt(VhdBuilder.BAT, 0)), "block at byte 0 over the footer's copy");
        assertRefused(header(file -> file.putInt(VhdBuilder.BAT, 3)), "over the BAT");
        assertRefused(header(file -> file.putInt(VhdBuilder.BAT, -2)), "BAT entry 0 is 4294967294, expected a block");
        int first = VhdBuilder.FIRST_BLOCK / 512;
        assertRefused(header(file -> file.putInt(VhdBuilder.BAT + 4, first)), "block at byte 2560 over the block");
        assertRefused(header(file -> file.putInt(VhdBuilder.BAT + 4, first + 1)), "over the block");
        assertRefused(
                header(file -> file.putInt(512 + 28, 5).putInt(VhdBuilder.BAT + 16, first)),
                "BAT entry 4 is 5, expected no block behind the disk's end");
    }

    @Test
    void aTruncatedDynamicDiskIsRefused() throws IOException {
        byte[] whole = VhdBuilder.bytes(dynamic().build());
        for (int length = 512; length < whole.length - 512; length += 512) {
            Path path = write(ByteBuffer.wrap(Arrays.copyOf(whole, length)));
            assertThatThrownBy(() -> VhdImage.open(path, Confinement.OWN_FOLDER).close())
                    .as("cut to %d bytes", length)
                    .isInstanceOf(ImageException.class);
        }
    }

    @Test
    void everyFailureClosesWhatWasOpened() throws IOException {
        dynamic().write(folder.resolve("parent.vhd"));
        Path child =
                new VhdBuilder(SIZE, BLOCK).childOf("parent.vhd", VhdBuilder.ID).write(folder.resolve("c.avhd"));
        byte[] broken = Files.readAllBytes(child);
        ByteBuffer.wrap(broken).putInt(VhdBuilder.BAT, 0);
        Files.write(child, broken);
        Path none = Files.write(folder.resolve("none.vhd"), new byte[4096]);
        long before = descriptors();
        for (int i = 0; i < 20; i++) {
            assertRefused(child, "BAT entry 0");
            assertRefused(none, "footer");
        }
        assertThat(descriptors()).isEqualTo(before);
    }

    private static long descriptors() throws IOException {
        try (var open = Files.list(Path.of("/proc/self/fd"))) {
            return open.count();
        }
    }

    private VhdBuilder dynamic() {
        VhdBuilder disk = new VhdBuilder(SIZE, BLOCK);
        for (int i = 0; i < 4; i++) {
            disk.block(i, piece(content, i));
        }
        return disk;
    }

    private static ByteBuffer fixed(byte[] content) {
        ByteBuffer file = ByteBuffer.allocate(content.length + 512).put(0, content);
        VhdBuilder.footer(file, content.length, content.length, 2, -1);
        return file;
    }

    /** A dynamic disk with both footers changed. */
    private Path footer(Consumer<ByteBuffer> change, boolean sealed) throws IOException {
        ByteBuffer file = dynamic().build();
        change.accept(file);
        if (sealed) {
            VhdBuilder.seal(file, 0, 512, 64);
        }
        return write(file.put(file.capacity() - 512, file, 0, 512));
    }

    /** A dynamic disk with another header or table. */
    private Path header(Consumer<ByteBuffer> change) throws IOException {
        ByteBuffer file = dynamic().build();
        change.accept(file);
        VhdBuilder.seal(file, 512, 1024, 36);
        return write(file);
    }

    private void assertContentStartsWithItself(ByteBuffer file) throws IOException {
        byte[] expected = new byte[SIZE];
        file.get(0, expected);
        assertContent(write(file), expected);
    }

    private static byte[] piece(byte[] content, int block) {
        return Arrays.copyOf(
                Arrays.copyOfRange(content, block * BLOCK, Math.min(content.length, (block + 1) * BLOCK)), BLOCK);
    }

    private static ByteBuffer copy(ByteBuffer file) {
        return ByteBuffer.allocate(file.capacity()).put(0, file, 0, file.capacity());
    }

    private Path write(ByteBuffer file) throws IOException {
        return Files.write(folder.resolve("disk.vhd"), VhdBuilder.bytes(file));
    }

    private static void assertContent(Path path, byte[] expected) throws IOException {
        try (VhdImage image = VhdImage.open(path, Confinement.OWN_FOLDER)) {
            assertThat(image.flat().size()).isEqualTo(expected.length);
            assertThat(Arrays.mismatch(Contents.of(image.flat()), expected))
                    .as("first wrong byte")
                    .isEqualTo(-1);
        }
    }

    private static void assertRefused(Path path, String... messages) {
        ThrowingCallable opening =
                () -> VhdImage.open(path, Confinement.OWN_FOLDER).close();
        assertThatThrownBy(opening).isInstanceOf(ImageException.class).message().contains(messages);
    }

    private byte[] bytes(int length) {
        byte[] bytes = new byte[length];
        random.nextBytes(bytes);
        return bytes;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import static dev.erofsublk.composer.vhdx.VhdxBuilder.BAT;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.FIRST_BLOCK;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.FULL;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.HEADER_1;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.HEADER_2;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.METADATA;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.MIB;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.REGIONS_1;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.REGIONS_2;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Contents;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.function.Consumer;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * What QEMU 7.2 does with a damaged VHDX, and what the reviewer of its first version asked for, row by row
 * (facts/vmdisk.md §1b), each with what is right.
 */
class VhdxRefusalsTest {
    @TempDir
    private Path folder;

    private final byte[] content = new byte[3 * MIB];
    private final VhdxBuilder image = new VhdxBuilder(3 * MIB, MIB, 512);

    VhdxRefusalsTest() {
        new Random(3).nextBytes(content);
        Arrays.fill(content, MIB, 2 * MIB, (byte) 0);
        image.block(0, FULL, Arrays.copyOf(content, MIB)).block(2, FULL, Arrays.copyOfRange(content, 2 * MIB, 3 * MIB));
        image.seal();
    }

    // One header bad: opens with the other. Both bad, a wrong version, equal numbers with other content: refused.

    @Test
    void oneDamagedHeaderIsNoLoss() throws IOException {
        for (int header : new int[] {HEADER_1, HEADER_2}) {
            Path path = unsealed(file -> file.put(header + 1000, (byte) 1));
            assertContent(path);
            unsealed(file -> file.put(header + 1000, (byte) 0));
        }
    }

    @Test
    void twoDamagedHeadersAreRefused() throws IOException {
        assertRefused(
                unsealed(file -> file.put(HEADER_1 + 1000, (byte) 1).put(HEADER_2, (byte) 'H')),
                "headers is 1 with a wrong checksum, 2 with another signature");
    }

    @Test
    void anotherVersionIsRefused() throws IOException {
        assertRefused(sealed(file -> file.putShort(HEADER_2 + 66, (short) 2)), "header 2.Version is 2, expected 1");
    }

    @Test
    void equalSequenceNumbersNeedEqualHeaders() throws IOException {
        assertRefused(
                sealed(file -> file.putLong(HEADER_1 + 8, 6).putLong(HEADER_1 + 16, 9)),
                "header 1.SequenceNumber is 6, expected another one than in header 2");
        assertContent(sealed(file -> file.put(HEADER_1, file, HEADER_2, 4096))); // disk2vhd writes two of a kind
    }

    @Test
    void sequenceNumbersAreUnsignedAndZeroIsOne() throws IOException {
        assertContent(sealed(
                file -> file.putLong(HEADER_1 + 8, -1).putLong(HEADER_2 + 8, 0).putInt(HEADER_2 + 68, 5)));
        assertContent(sealed(file -> file.putLong(HEADER_1 + 8, 0).put(HEADER_2, (byte) 0)));
    }

    @Test
    void anotherFileSignatureIsRefused() throws IOException {
        assertRefused(sealed(file -> file.put(0, (byte) 'V')), "file type identifier.Signature is \"Vhdxfile\"");
    }

    @Test
    void aLogOffTheMebibytesIsRefused() throws IOException {
        assertRefused(sealed(file -> file.putLong(HEADER_2 + 72, MIB + 4096)), "header 2.LogOffset is 1052672");
        assertRefused(sealed(file -> file.putInt(HEADER_2 + 68, 4096)), "header 2.LogLength is 4096");
    }

    // Region table 1 bad, 2 good: QEMU refuses without looking at table 2.

    @Test
    void theSecondRegionTableIsUsedWhereTheFirstIsDamaged() throws IOException {
        assertContent(unsealed(file -> file.put(REGIONS_1 + 3000, (byte) 1)));
        assertContent(sealed(file -> file.putInt(REGIONS_1, 0)));
    }

    @Test
    void twoDamagedRegionTablesAreRefused() throws IOException {
        assertRefused(
                unsealed(file -> file.put(REGIONS_1 + 3000, (byte) 1).put(REGIONS_2 + 3000, (byte) 1)),
                "region tables is damaged, both");
    }

    @Test
    void regionTablesThatContradictEachOtherAreRefused() throws IOException {
        assertRefused(sealed(file -> file.putLong(REGIONS_2 + 32, 4L * MIB)), "two that differ");
    }

    @Test
    void unusableRegionTablesAreRefused() throws IOException {
        assertRefused(regions(file -> file.putInt(REGIONS_1 + 8, 2048)), "EntryCount is 2048, expected at most 2047");
        assertRefused(regions(file -> file.putInt(REGIONS_1 + 8, -1)), "EntryCount is 4294967295");
        assertRefused(regions(file -> file.putInt(REGIONS_1 + 8, 1)), "without metadata region");
        assertRefused(regions(file -> file.putInt(REGIONS_1 + 8, 0)), "without BAT region");
        assertRefused(
                regions(file -> file.put(REGIONS_1 + 48, file, REGIONS_1 + 16, 16)),
                "Guid is BAT region, expected each");
        assertRefused(regions(file -> file.putLong(REGIONS_1 + 32, MIB / 2)), "FileOffset is 524288");
        assertRefused(regions(file -> file.putLong(REGIONS_1 + 32, -(1L << 20))), "FileOffset is 18446744073708503040");
        assertRefused(
                regions(file -> file.putLong(REGIONS_1 + 32, 1L << 50)),
                "bytes at byte 1125899906842624 of 6291456, expected inside the file");
        assertRefused(regions(file -> file.putInt(REGIONS_1 + 40, 0)), "Length is 0");
    }

    @Test
    void anUnknownRegionCountsOnlyIfItIsRequired() throws IOException {
        Consumer<ByteBuffer> third = file -> {
            file.putInt(REGIONS_1 + 8, 3);
            VhdxBuilder.guid(file, REGIONS_1 + 80, new UUID(8, 9));
            file.putLong(REGIONS_1 + 96, 64L * MIB).putInt(REGIONS_1 + 104, MIB);
        };
        assertContent(regions(third));
        assertRefused(regions(third.andThen(file -> file.putInt(REGIONS_1 + 108, 1))), "an unknown required region");
    }

    @Test
    void overlappingRegionsAreRefused() throws IOException {
        assertRefused(
                regions(file -> file.putInt(REGIONS_1 + 72, 2 * MIB)), "BAT region at byte 3145728 over metadata");
        assertRefused(regions(file -> file.putLong(REGIONS_1 + 32, MIB)), "overlap");
        assertRefused(
                sealed(file -> file.putInt(HEADER_2 + 68, 2 * MIB)), "metadata region at byte 2097152 over the log");
    }

    // Metadata.

    @Test
    void unusableMetadataTablesAreRefused() throws IOException {
        assertRefused(sealed(file -> file.put(METADATA, (byte) 0)), "metadata table.Signature");
        assertRefused(sealed(file -> file.putShort(METADATA + 10, (short) 2048)), "EntryCount is 2048");
        assertRefused(sealed(file -> file.putInt(METADATA + 32 + 16, 65535)), "entry 0.Offset is 65535");
        assertRefused(sealed(file -> file.putInt(METADATA + 32 + 16, MIB - 4)), "entry 0.Offset is 1048572");
        assertRefused(sealed(file -> file.putInt(METADATA + 32 + 20, -1)), "entry 0.Length is 4294967295");
        assertRefused(sealed(file -> file.putInt(METADATA + 32 + 20, 7)), "file parameters.Length is 7, expected 8");
        assertRefused(sealed(file -> file.putInt(METADATA + 32 + 24, 0x14)), "entry 0.flags is 0x14");
        assertRefused(sealed(file -> file.putInt(METADATA + 64 + 16, 65540)), "metadata item 1 at byte 65540 over");
        assertRefused(
                sealed(file -> file.put(METADATA + 64, file, METADATA + 32, 16)), "again, expected each item once");
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 2, 3, 4})
    void eachMandatoryItemIsMissed(int item) throws IOException {
        List<String> names = List.of(
                "file parameters",
                "virtual disk size",
                "virtual disk id",
                "logical sector size",
                "physical sector size");
        int at = METADATA + 32 + 32 * item;
        assertRefused(
                sealed(file -> file.putLong(at, 1).putInt(at + 24, 0)), "metadata table is without " + names.get(item));
    }

    @Test
    void anUnknownItemCountsOnlyIfItIsRequired() throws IOException {
        Consumer<ByteBuffer> sixth = file -> {
            file.putShort(METADATA + 10, (short) 6);
            VhdxBuilder.guid(file, METADATA + 32 + 160, new UUID(8, 9));
            file.putInt(METADATA + 32 + 176, 128 << 10).putInt(METADATA + 32 + 180, 100);
        };
        assertContent(sealed(sixth));
        assertRefused(sealed(sixth.andThen(file -> file.putInt(METADATA + 32 + 184, 4))), "an unknown required item");
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 512 << 10, 512 << 20, 3 << 20, MIB + 1, -1})
    void blockSizesAreAPowerOfTwoFromOneTo256Mebibytes(int size) throws IOException {
        assertRefused(
                sealed(file -> file.putInt(METADATA + VhdxBuilder.FILE_PARAMETERS, size)),
                "file parameters.BlockSize is " + Integer.toUnsignedString(size));
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 511, 1024, 2048, 8192, -1})
    void bothSectorSizesAre512Or4096(int size) throws IOException {
        String shown = Integer.toUnsignedString(size);
        Path path = sealed(file -> file.putInt(METADATA + VhdxBuilder.SECTOR_SIZE, size));
        assertRefused(path, "logical sector size.size is " + shown);
        path = sealed(file -> file.putInt(METADATA + VhdxBuilder.SECTOR_SIZE, 512)
                .putInt(METADATA + VhdxBuilder.PHYSICAL_SECTOR_SIZE, size));
        assertRefused(path, "physical sector size.size is " + shown);
    }

    @ParameterizedTest
    @ValueSource(longs = {0, 1, 513, -512, (64L << 40) + 512, 1L << 46 | 1})
    void virtualSizesAreWholeSectorsUpTo64Tebibytes(long size) throws IOException {
        assertRefused(
                sealed(file -> file.putLong(METADATA + VhdxBuilder.VIRTUAL_SIZE, size)),
                "virtual disk size.VirtualDiskSize is " + Long.toUnsignedString(size));
    }

    @Test
    void aTableTooSmallForTheDiskIsRefused() throws IOException {
        assertRefused(
                sealed(file -> file.putLong(METADATA + VhdxBuilder.VIRTUAL_SIZE, 64L << 40)),
                "BAT region.Length is 1048576, expected room for 67125247 entries");
    }

    @Test
    void parentBitAndParentLocatorGoTogether() throws IOException {
        int flags = METADATA + VhdxBuilder.FILE_PARAMETERS + 4;
        assertRefused(sealed(file -> file.putInt(flags, 2)), "HasParent is 1, expected 0 without a parent locator");
        assertRefused(sealed(file -> file.putInt(flags, 4)), "file parameters.flags is 0x4");
        image.childOf("parent.vhdx", new UUID(1, 1));
        assertRefused(sealed(file -> file.putInt(flags, 0)), "HasParent is 0, expected 1 with a parent locator");
    }

    @Test
    void aPreallocatedImageIsOfTheFixedKindAndReadsTheSame() throws IOException {
        assertContent(sealed(file -> file.putInt(METADATA + VhdxBuilder.FILE_PARAMETERS + 4, 1)));
    }

    // The block allocation table.

    @Test
    void aBlockThatEndsBehindTheFileIsRefused() throws IOException {
        Path path = sealed(file -> {});
        Files.write(path, Arrays.copyOf(Files.readAllBytes(path), image.file().capacity() - 512));
        assertRefused(path, "BAT entry 2.FileOffset is 5242880, expected room for 1048576 bytes");
        assertRefused(sealed(file -> file.putLong(BAT, 1L << 40 | FULL)), "BAT entry 0.FileOffset is 1099511627776");
        assertRefused(sealed(file -> file.putLong(BAT, -1L << 20 | FULL)), "BAT entry 0.FileOffset is 184467440737");
    }

    @Test
    void aBlockOverAnotherStructureIsRefused() throws IOException {
        assertRefused(sealed(file -> file.putLong(BAT, FULL)), "BAT entry 0.FileOffset is 0");
        assertRefused(sealed(file -> file.putLong(BAT, MIB | FULL)), "block at byte 1048576 over the log");
        assertRefused(sealed(file -> file.putLong(BAT, 2 * MIB | FULL)), "block at byte 2097152 over metadata region");
        assertRefused(sealed(file -> file.putLong(BAT, BAT | FULL)), "block at byte 3145728 over BAT region");
    }

    @Test
    void aBlockThatTwoEntriesNameIsRefused() throws IOException {
        assertRefused(
                sealed(file -> file.putLong(BAT + 16, FIRST_BLOCK | FULL)),
                "block at byte 4194304 over the block at byte 4194304");
    }

    @Test
    void reservedBitsOfAnEntryAreRefused() throws IOException {
        assertRefused(sealed(file -> file.putLong(BAT, FIRST_BLOCK | FULL | 8)), "BAT entry 0.reserved bits is 0x8");
    }

    @ParameterizedTest
    @ValueSource(ints = {4, 7})
    void statesWithoutMeaningInAPlainImageAreRefusedAtOpening(int state) throws IOException {
        assertRefused(
                sealed(file -> file.putLong(BAT, FIRST_BLOCK | state)),
                "BAT entry 0.state is " + state + ", expected 0, 1, 2, 3 or 6 without a parent");
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 2, 3, 5})
    void statesWithoutBlockAreZerosWhateverTheirOffset(int state) throws IOException {
        Arrays.fill(content, 0, MIB, (byte) 0);
        assertContent(sealed(file -> file.putLong(BAT, FIRST_BLOCK | state)));
        assertContent(sealed(file -> file.putLong(BAT, -1L << 20 | state)));
    }

    @Test
    void aBlockBehindTheDisksEndIsRefused() throws IOException {
        assertRefused(
                sealed(file -> file.putLong(BAT + 24, 6L * MIB | FULL)),
                "BAT entry 3.state is 6, expected nothing allocated behind the disk's end");
    }

    @Test
    void entriesOfSectorBitmapsDoNotCountInAPlainImage() throws IOException {
        // QEMU before 8.0 left garbage there (gitlab.com/qemu-project/qemu/-/issues/727).
        assertContent(sealed(file -> file.putLong(BAT + 8 * 4096, -1)));
    }

    // The reviewer's list.

    @Test
    void aRefusalIsTypedAndNamesFileAndFieldAndNothingIsPrinted() throws IOException {
        Path path = unsealed(file -> file.put(HEADER_1, (byte) 0).put(HEADER_2, (byte) 0));
        PrintStream out = System.out;
        PrintStream err = System.err;
        var printed = new ByteArrayOutputStream();
        var sink = new PrintStream(printed, true, StandardCharsets.UTF_8);
        try {
            System.setOut(sink);
            System.setErr(sink);
            assertThatThrownBy(() -> VhdxImage.open(path, Confinement.OWN_FOLDER))
                    .isInstanceOfSatisfying(ImageException.class, e -> {
                        assertThat(e.file()).isEqualTo(path.toString());
                        assertThat(e.field()).isEqualTo("headers");
                    });
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
        assertThat(printed.size()).isZero();
    }

    @Test
    void aFileCutAnywhereIsRefusedAndNeverReadAsZeros() throws IOException {
        byte[] whole = Files.readAllBytes(sealed(file -> {}));
        for (int length : new int[] {
            0,
            7,
            8,
            65535,
            HEADER_1 + 100,
            HEADER_2 + 4095,
            REGIONS_1 + 1,
            MIB - 1,
            MIB,
            METADATA,
            METADATA + 65536,
            METADATA + 65536 + 8,
            METADATA + 65536 + 16,
            METADATA + 65536 + 36,
            BAT,
            BAT + 8,
            BAT + MIB - 8,
            FIRST_BLOCK,
            FIRST_BLOCK + MIB,
            whole.length - 1
        }) {
            Path path = Files.write(folder.resolve("cut.vhdx"), Arrays.copyOf(whole, length));
            assertThatThrownBy(
                            () -> VhdxImage.open(path, Confinement.OWN_FOLDER).close())
                    .as("cut to %d bytes", length)
                    .isInstanceOf(ImageException.class);
        }
    }

    @Test
    void everyFailureClosesWhatWasOpened() throws IOException {
        Path good = sealed(file -> {});
        Path parent = Files.copy(good, folder.resolve("parent.vhdx"));
        Path child = new VhdxBuilder(3 * MIB, MIB, 512)
                .childOf("parent.vhdx", VhdxBuilder.DATA_WRITE_GUID)
                .state(0, 4)
                .write(folder.resolve("child.avhdx"));
        assertThat(parent).exists();
        long before = descriptors();
        for (int i = 0; i < 50; i++) {
            assertRefused(child, "BAT entry 0.state is 4");
            assertRefused(Files.write(folder.resolve("no.vhdx"), new byte[2 * MIB]), "Signature");
        }
        assertThat(descriptors()).isEqualTo(before);
        for (int i = 0; i < 50; i++) {
            VhdxImage.open(good, Confinement.OWN_FOLDER).close();
        }
        assertThat(descriptors()).isEqualTo(before);
    }

    @Test
    void anEmptyDiskClosesItsFileToo() throws IOException {
        Path empty = new VhdxBuilder(MIB, MIB, 512).write(folder.resolve("empty.vhdx"));
        long before = descriptors();
        try (VhdxImage opened = VhdxImage.open(empty, Confinement.OWN_FOLDER)) {
            assertThat(opened.flat().extentCount()).isEqualTo(1);
        }
        assertThat(descriptors()).isEqualTo(before);
    }

    @Test
    void readsArePositionalAndConcurrent() throws IOException, InterruptedException, ExecutionException {
        try (VhdxImage opened = VhdxImage.open(sealed(file -> {}), Confinement.OWN_FOLDER);
                var threads = Executors.newFixedThreadPool(4)) {
            Callable<byte[]> reading = () -> Contents.of(opened.flat());
            for (var read : threads.invokeAll(Collections.nCopies(16, reading))) {
                assertThat(Arrays.equals(read.get(), content)).isTrue();
            }
        }
    }

    @Test
    void offsetsAboveTwoTebibytesAreNotCutTo32Bits() throws IOException {
        // Block 0 lies at 3 TiB of a sparse file.
        Path path = sealed(file -> file.putLong(BAT, 3L << 40 | FULL));
        try (var channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
            ByteBuffer block = ByteBuffer.wrap(content, 0, MIB);
            long at = 3L << 40;
            while (block.hasRemaining()) {
                at += channel.write(block, at);
            }
        }
        assertContent(path);
    }

    private static long descriptors() throws IOException {
        try (var open = Files.list(Path.of("/proc/self/fd"))) {
            return open.count();
        }
    }

    private Path sealed(Consumer<ByteBuffer> change) throws IOException {
        ByteBuffer before = ByteBuffer.allocate(image.file().capacity())
                .put(0, image.file(), 0, image.file().capacity());
        change.accept(image.file());
        Path path = image.write(folder.resolve("disk.vhdx"));
        image.file().put(0, before, 0, before.capacity());
        return path;
    }

    private Path regions(Consumer<ByteBuffer> change) throws IOException {
        return sealed(change.andThen(file -> file.put(REGIONS_2, file, REGIONS_1, 65536)));
    }

    private Path unsealed(Consumer<ByteBuffer> change) throws IOException {
        change.accept(image.file());
        byte[] bytes = new byte[image.file().capacity()];
        image.file().get(0, bytes);
        return Files.write(folder.resolve("disk.vhdx"), bytes);
    }

    private void assertContent(Path path) throws IOException {
        try (VhdxImage opened = VhdxImage.open(path, Confinement.OWN_FOLDER)) {
            assertThat(Arrays.mismatch(Contents.of(opened.flat()), content))
                    .as("first wrong byte")
                    .isEqualTo(-1);
        }
    }

    private static void assertRefused(Path path, String message) {
        ThrowingCallable opening =
                () -> VhdxImage.open(path, Confinement.OWN_FOLDER).close();
        assertThatThrownBy(opening).isInstanceOf(ImageException.class).hasMessageContaining(message);
    }
}

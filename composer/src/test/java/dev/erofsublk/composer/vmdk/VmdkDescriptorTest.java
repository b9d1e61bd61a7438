// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.ImageException;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Descriptors, extents in files and the rules for both. */
class VmdkDescriptorTest {
    private static final int SECTOR = 512;

    @TempDir
    Path folder;

    private Path disk;
    private byte[] flat;

    @BeforeEach
    void layFiles() throws IOException {
        disk = folder.resolve("d.vmdk");
        flat = new byte[100 * SECTOR];
        new Random(7).nextBytes(flat);
        Files.write(folder.resolve("f"), flat);
    }

    private void describe(String text) throws IOException {
        Files.writeString(disk, text, StandardCharsets.ISO_8859_1);
    }

    private void describeExtents(String lines) throws IOException {
        describe(SparseBuilder.descriptor("custom", lines, "1", ""));
    }

    private void refused(String reason) {
        assertThatThrownBy(() -> Content.bytes(disk))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining(reason);
    }

    @Test
    void aZeroExtentIsZerosAndMovesNothing() throws IOException {
        describeExtents("RW 10 FLAT \"f\" 0\nRW 20 ZERO\nRDONLY 5 FLAT \"f\" 95");
        byte[] expected = new byte[35 * SECTOR];
        System.arraycopy(flat, 0, expected, 0, 10 * SECTOR);
        System.arraycopy(flat, 95 * SECTOR, expected, 30 * SECTOR, 5 * SECTOR);
        Content.assertSame("disk", Content.bytes(disk), expected);
    }

    @Test
    void aReadOnlyExtentIsServed() throws IOException {
        describeExtents("RDONLY 100 FLAT \"f\" 0");
        Content.assertSame("disk", Content.bytes(disk), flat);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "NOACCESS 10 FLAT \"f\" 0",
                "RW 10 VMFSRAW \"f\"",
                "RW 10 VMFSRDM \"f\"",
                "RW 10 FOO \"f\"",
                "rw 10 flat \"f\" 0",
                "RW 10 flat \"f\" 0",
                "RW 0 FLAT \"f\" 0",
                "RW -1 FLAT \"f\" 0",
                "RW 0x10 FLAT \"f\" 0",
                "RW 99999999999999999999 ZERO",
                "RW 1099511627777 ZERO",
                "RW 10 FLAT \"\" 0",
                "RW 10 FLAT \"f\"",
                "RW 10 FLAT \"f\" -1",
                "RW 10 FLAT \"f\" 0 more",
                "RW 10 FLAT f 0",
                "RW 10 FLAT \"f 0",
                "RW 10 VMFS \"f\" 1",
                "RW 10 SPARSE \"f\" 0",
                "RW 10 SESPARSE \"f\" 0",
                "RW 10 ZERO \"f\"",
                "RW 10",
                "something else"
            })
    void everyOtherLineIsRefusedByItsNumber(String line) throws IOException {
        describeExtents("RW 10 FLAT \"f\" 0\n" + line + "\nRW 10 FLAT \"f\" 10");
        refused("descriptor line 9 is " + line);
    }

    @Test
    void aNameLongerThanTheFormatsLimitIsRefused() throws IOException {
        describeExtents("RW 10 FLAT \"" + "a".repeat(512) + "\" 0");
        refused("a file name of at most 511 bytes");
    }

    @Test
    void aDescriptorWithoutExtentsIsRefused() throws IOException {
        describeExtents("");
        refused("extents is none");
    }

    @ParameterizedTest
    @CsvSource({"RW 101 FLAT \"f\" 0", "RW 1 FLAT \"f\" 100", "RW 10 FLAT \"f\" 1099511627776", "RW 101 VMFS \"f\""})
    void anExtentBehindTheEndOfItsFileIsRefusedAndNotReadAsZeros(String line) throws IOException {
        describeExtents(line);
        refused("a place within the file's 51200 bytes");
    }

    @Test
    void aFileThatEndsWithinASectorIsRefused() throws IOException {
        Files.write(folder.resolve("short"), new byte[1000]);
        describeExtents("RW 2 FLAT \"short\" 0");
        refused("a place within the file's 1000 bytes");
    }

    @Test
    void aMissingExtentIsRefused() throws IOException {
        describeExtents("RW 10 FLAT \"gone\" 0");
        refused("file reference is \"gone\", expected a file that exists");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "monolithicFlat",
                "vmfs",
                "vmfsThin",
                "vmfsPreallocated",
                "vmfsEagerZeroedThick",
                "vmfsSparse",
                "seSparse",
                "twoGbMaxExtentFlat",
                "twoGbMaxExtentSparse",
                "2GbMaxExtentFlat",
                "2GbMaxExtentSparse",
                "custom"
            })
    void everyTypeWhoseExtentsAreFilesIsRead(String type) throws IOException {
        describe(SparseBuilder.descriptor(type, "RW 100 FLAT \"f\" 0", "1", ""));
        Content.assertSame("disk", Content.bytes(disk), flat);
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "fullDevice",
                "partitionedDevice",
                "vmfsRaw",
                "vmfsRDM",
                "vmfsRawDeviceMap",
                "vmfsPassthroughRawDeviceMap",
                "",
                "foo"
            })
    void aTypeWhoseExtentsAreDevicesIsRefusedByName(String type) throws IOException {
        describe(SparseBuilder.descriptor(type, "RW 100 FLAT \"f\" 0", "1", ""));
        refused("createType is \"" + type + "\"");
    }

    @ParameterizedTest
    @ValueSource(strings = {"monolithicSparse", "streamOptimized"})
    void aTypeWhoseDescriptorIsInItsExtentIsRefusedAsText(String type) throws IOException {
        describe(SparseBuilder.descriptor(type, "RW 100 FLAT \"f\" 0", "1", ""));
        refused("a type whose descriptor is a file of its own");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "CID=1\nversion=1\nRW 100 FLAT \"f\" 0\ncreateType=\"vmfs\"\nparentCID=ffffffff",
                "\n\nencoding=\"UTF-8\"\nversion = \"1\"\nCID = 1\nparentCID\t=  FFFFFFFF\ncreateType = vmfs\n  RW 100  FLAT\t\"f\" 0 ",
                "version=1\r\nCID=1\r\nparentCID=ffffffff\r\ncreateType=\"vmfs\"\r\nRW 100 FLAT \"f\" 0\r\n",
                "# CID=99 parentCID=1 createType=\"foo\" RW 9 FLAT\nversion=3\nCID=1\nparentCID=ffffffff\ncreateType=\"vmfs\"\nRW 100 FLAT \"f\" 0",
                "version=2\nCID=1\nparentCID=ffffffff\ncreateType=\"vmfs\"\nRW 100 FLAT \"f\" 0\nddb.x = \"a=b\" c\nchangeTrackPath=\"x\"\0\0\0"
            })
    void whatQemuGetsWrongInTheTextIsReadByItsLines(String text) throws IOException {
        describe(text);
        Content.assertSame("disk", Content.bytes(disk), flat);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "version=4 | CID=1 | parentCID=ffffffff | version is 4",
                "x=1 | CID=1 | parentCID=ffffffff | version is missing",
                "version=1 | CID=123456789 | parentCID=ffffffff | CID is \"123456789\"",
                "version=1 | CID=xyz | parentCID=ffffffff | CID is \"xyz\"",
                "version=1 | CID= | parentCID=ffffffff | CID is \"\"",
                "version=1 | y=1 | parentCID=ffffffff | CID is missing",
                "version=1 | CID=1 | z=1 | parentCID is missing",
                "version=1 | CID=1 | CID=2 | the only line with this key",
                "version=1 | CID=1 | parentCID=\"ffffffff | the second quote",
                "version=1 | CID=1 | parentCID=2 | since there is no parentFileNameHint"
            })
    void aDamagedKeyIsRefused(String a, String b, String c, String reason) throws IOException {
        describe(a + "\n" + b + "\n" + c + "\ncreateType=\"vmfs\"\nRW 100 FLAT \"f\" 0\n");
        refused(reason);
    }

    @Test
    void textBehindANulIsRefused() throws IOException {
        describe(SparseBuilder.descriptor("vmfs", "RW 100 FLAT \"f\" 0", "1", "") + "\0\nRW 1 ZERO\n");
        refused("goes on behind a NUL");
    }

    @Test
    void theEndThatQemuLeavesBehindAShorterContentIdIsNoText() throws IOException {
        String text = SparseBuilder.descriptor("vmfs", "RW 100 FLAT \"f\" 0", "1", "");
        describe(text + "\0ide\"\n\0\0\0");
        assertThat(Content.bytes(disk)).isEqualTo(flat);
        describe(text + "\0adf\"\n\0\0\0");
        refused("goes on behind a NUL");
        describe(text + "\0pe = \"ide\"\n");
        refused("goes on behind a NUL");
    }

    @Test
    void aDescriptorOfAMebibyteIsRefusedAndNotCutOff() throws IOException {
        String text = SparseBuilder.descriptor("vmfs", "RW 100 FLAT \"f\" 0", "1", "");
        String comment = "# " + "x".repeat(997) + "\n";
        String padded = text + comment.repeat(((1 << 20) - text.length()) / 1000);
        padded += "#".repeat((1 << 20) - 1 - padded.length());
        describe(padded);
        Content.assertSame("disk", Content.bytes(disk), flat);
        describe(padded + "#");
        refused("a descriptor of at most 1048575 bytes");
    }

    @Test
    void namesAreInTheEncodingOfTheDescriptor() throws IOException {
        Files.write(folder.resolve("ü"), flat);
        String text = SparseBuilder.descriptor("vmfs", "RW 100 FLAT \"\u00fc\" 0", "1", "");
        describe("encoding=\"windows-1252\"\n" + text);
        Content.assertSame("disk", Content.bytes(disk), flat);
        describe(text);
        refused("a file name in unknown letters");
        Files.writeString(disk, text, StandardCharsets.UTF_8);
        Content.assertSame("disk", Content.bytes(disk), flat);
    }

    @ParameterizedTest
    @ValueSource(strings = {"../f", "/etc/passwd", "link"})
    void anExtentElsewhereIsRefusedUnlessAllowed(String name) throws IOException {
        Path inner = Files.createDirectory(folder.resolve("inner"));
        Files.createSymbolicLink(inner.resolve("link"), Path.of("../f"));
        disk = inner.resolve("d.vmdk");
        describeExtents("RW 1 FLAT \"" + name + "\" 0");
        refused("--allow-dir");
        if (name.equals("../f")) {
            Confinement allowed = new Confinement(List.of(folder));
            try (VmdkImage image = Content.open(disk, allowed)) {
                assertThat(image.flat().size()).isEqualTo(SECTOR);
            }
        }
    }

    @Test
    void fiveThousandLinesOfOneFileNeedOneDescriptorAndLittleTime() throws IOException {
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < 5000; i++) {
            lines.append("RW 1 FLAT \"f\" ").append(i * 37 % 100).append('\n');
        }
        describeExtents(lines.toString());
        int before = openFiles();
        long start = System.nanoTime();
        try (VmdkImage image = Content.open(disk, Confinement.OWN_FOLDER)) {
            assertThat((System.nanoTime() - start) / 1_000_000).isLessThan(1000);
            assertThat(openFiles() - before).isEqualTo(1);
            assertThat(Arrays.copyOfRange(Content.bytes(image.flat()), SECTOR, 2 * SECTOR))
                    .isEqualTo(Arrays.copyOfRange(flat, 37 * SECTOR, 38 * SECTOR));
        }
        assertThat(openFiles()).isEqualTo(before);
    }

    @Test
    void aRefusalLeavesNoFileOpen() throws IOException {
        describeExtents("RW 10 FLAT \"f\" 0\nRW 10 FLAT \"gone\" 0");
        int before = openFiles();
        for (int i = 0; i < 20; i++) {
            refused("gone");
        }
        assertThat(openFiles()).isLessThan(before + 10);
    }

    private static int openFiles() {
        String[] fds = new File("/proc/self/fd").list();
        return fds == null ? -1 : fds.length;
    }

    @Test
    void whatIsNoVmdkIsRefusedAsSuch() throws IOException {
        describe("abc");
        refused("a VMDK: at least 4 bytes");
        describe("just some text\n");
        refused("a VMDK: its magic");
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.probe;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.RawImage;
import dev.erofsublk.composer.disk.Contents;
import dev.erofsublk.composer.disk.Samples;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class ProbeTest {
    private static final String DESCRIPTOR = "# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\n";

    @TempDir
    private Path folder;

    @ParameterizedTest
    @ValueSource(strings = {"vhdxfile", "KDMV", "COWD", "conectix", DESCRIPTOR, "#x\n createType = \"vmfs\"\n"})
    void whatATenantWritesNeverMakesARawImageAnythingElse(String head) throws IOException {
        byte[] content = disk(head, 0);

        for (String name : new String[] {"disk.raw", "disk.IMG", "a.vmdk.bin", "disk-flat.vmdk", "disk-f001.vmdk"}) {
            assertThat(Probe.format(write(name, content))).as(name).isEqualTo(Format.RAW);
        }
        for (String name : new String[] {"disk", "vm.qcow", "disk.vhdx.bak"}) {
            assertThatThrownBy(() -> Probe.format(write(name, content)))
                    .as(name)
                    .isInstanceOf(ImageException.class)
                    .hasMessageContaining("--format raw");
        }
    }

    @Test
    void aFooterThatATenantWritesAtTheEndMakesNoVhd() throws IOException {
        byte[] content = disk("conectix", 65536 - 512);

        assertThat(Probe.format(write("disk.raw", content))).isEqualTo(Format.RAW);
        assertThatThrownBy(() -> Probe.format(write("disk", content))).hasMessageContaining("vhd by content alone");
    }

    @Test
    void aTenantOfAFixedVhdCannotMakeItAnotherFormat() throws IOException {
        byte[] content = disk("vhdxfile", 0);
        System.arraycopy("conectix".getBytes(StandardCharsets.US_ASCII), 0, content, content.length - 512, 8);

        assertThat(Probe.format(write("disk.vhd", content))).isEqualTo(Format.VHD);
    }

    @ParameterizedTest
    @ValueSource(strings = {"disk", "disk.raw", "disk.vmdk", "disk.vhd", "disk.vhdx", "disk.erofs"})
    void anErofsSuperblockIsRecognisedUnderAnyName(String name) throws IOException {
        byte[] content = disk("KDMV", 0);
        ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN).putInt(1024, 0xE0F5E1E2);

        assertThat(Probe.format(write(name, content))).isEqualTo(Format.EROFS);
    }

    @ParameterizedTest
    @CsvSource({"disk.vmdk, KDMV, VMDK", "DISK.VMDK, COWD, VMDK", "d.vhdx, vhdxfile, VHDX", "d.avhdx, vhdxfile, VHDX"})
    void nameAndContentTogetherMakeAFormat(String name, String head, Format format) throws IOException {
        assertThat(Probe.format(write(name, disk(head, 0)))).isEqualTo(format);
    }

    @Test
    void aDescriptorMakesAVmdk() throws IOException {
        assertThat(Probe.format(write("disk.vmdk", DESCRIPTOR.getBytes(StandardCharsets.US_ASCII))))
                .isEqualTo(Format.VMDK);
    }

    @ParameterizedTest
    @ValueSource(strings = {"disk.vmdk", "disk.vhdx", "disk.avhdx"})
    void aPromiseWithoutTheContentIsRefused(String name) {
        assertThatThrownBy(() -> Probe.format(write(name, new byte[4096])))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("as the name says");
    }

    @Test
    void filesTooSmallForAnyMarkAreRaw() throws IOException {
        for (int size : new int[] {0, 1, 3, 511, 512, 1023, 1024, 1027, 1028}) {
            assertThat(Probe.format(write("disk", new byte[size]))).isEqualTo(Format.RAW);
        }
    }

    @Test
    void samplesAreRecognised() throws IOException {
        for (String format : new String[] {"vhd", "vhdx", "vmdk"}) {
            Path into = Files.createDirectories(folder.resolve(format));
            Samples.unpack(format, into);
        }
        assertThat(Probe.format(folder.resolve("vhd/child.avhd"))).isEqualTo(Format.VHD);
        assertThat(Probe.format(folder.resolve("vhd/fixed.vhd"))).isEqualTo(Format.VHD);
        assertThat(Probe.format(folder.resolve("vhdx/child.avhdx"))).isEqualTo(Format.VHDX);
        assertThat(Probe.format(folder.resolve("vmdk/streamOptimized.vmdk"))).isEqualTo(Format.VMDK);
        assertThat(Probe.format(folder.resolve("vmdk/vmfs_thick.vmdk"))).isEqualTo(Format.VMDK);
        assertThat(Probe.format(folder.resolve("vmdk/vmfs_thick-flat.vmdk"))).isEqualTo(Format.RAW);
        assertThat(Probe.format(folder.resolve("vmdk/ext2.raw"))).isEqualTo(Format.RAW);
    }

    @Test
    void formatsHaveTheNamesOfTheCommandLine() {
        assertThat(Format.named("vhdx")).contains(Format.VHDX);
        assertThat(Format.named("RAW")).contains(Format.RAW);
        assertThat(Format.named("qcow2")).isEmpty();
        assertThat(Arrays.stream(Format.values()).map(Format::toString))
                .containsExactly("erofs", "raw", "vmdk", "vhdx", "vhd");
    }

    @Test
    void aRawImageIsTheFileWithItsLastSectorFilledUp() throws IOException {
        byte[] content = disk("vhdxfile", 0);
        try (RawImage image = RawImage.open(write("whole.raw", content))) {
            assertThat(Contents.of(image.flat())).isEqualTo(content);
        }
        byte[] odd = Arrays.copyOf(content, 1030);
        odd[1029] = 7;
        try (RawImage image = RawImage.open(write("odd.raw", odd))) {
            assertThat(Contents.of(image.flat())).isEqualTo(Arrays.copyOf(odd, 1536));
        }
        assertThatThrownBy(() -> RawImage.open(write("empty.raw", new byte[0])))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("size is 0");
    }

    private static byte[] disk(String word, int at) {
        byte[] content = new byte[65536];
        byte[] bytes = word.getBytes(StandardCharsets.US_ASCII);
        System.arraycopy(bytes, 0, content, at, bytes.length);
        return content;
    }

    private Path write(String name, byte[] content) throws IOException {
        return Files.write(folder.resolve(name), content);
    }
}

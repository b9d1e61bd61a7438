// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.tuple;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The expected values are those of samples/MANIFEST.md. */
class VmdkSamplesTest {
    @TempDir
    static Path samples;

    @BeforeAll
    static void unpack() throws IOException {
        Samples.unpack(samples);
    }

    @ParameterizedTest
    @CsvSource({
        "cowd.vmdk,                 3148288,  93cc23d5ea77d2bc66091afe670d08a516883bc14ecaa9a841bc41d95de6f697",
        "embedded-desc.vmdk,        65536,    4bf0558e0de80e1931c490893b2de1a43b2238f53578fef2e6cd2f6a27c35e78",
        "ext2.vmdk,                 4194304,  a6c2f0e39afe6c6ab432ca5465349fcefe8dc944398e97b2d957d3f89dbb5d80",
        "mixed.vmdk,                327680,   d5e32be1d6f50d8b770712be62a702ea6234493b91377f74b2114502730eb327",
        "monolithicFlat.vmdk,       10485760, a3bcf05f07a1c06a3380eeca8571f0efb2b85afafa1e21662b8cad436d1f7727",
        "monolithicSparse.vmdk,     10485760, a3bcf05f07a1c06a3380eeca8571f0efb2b85afafa1e21662b8cad436d1f7727",
        "parent.vmdk,               3148288,  af803dcda7c9466d709bd7d588a75d421a91fe74da42bbe5dade8121db2368da",
        "se.vmdk,                   33588736, 438dd84566542958545dc1e83f12f9469a215749b959aecb344fd5a2669dacfe",
        "separ.vmdk,                33588736, 051e1193afbabbbb2f8b2d3429b162f86fd2cc62b69659fa9aeeeedd1d78ab0b",
        "so-footer.vmdk,            73409024, f8bd487e20210f0bb0716b72d945214a66ec71c7dca9b21e37a1a1834021033b",
        "streamOptimized.vmdk,      10485760, a3bcf05f07a1c06a3380eeca8571f0efb2b85afafa1e21662b8cad436d1f7727",
        "twoGbMaxExtentFlat.vmdk,   10485760, a3bcf05f07a1c06a3380eeca8571f0efb2b85afafa1e21662b8cad436d1f7727",
        "twoGbMaxExtentSparse.vmdk, 10485760, a3bcf05f07a1c06a3380eeca8571f0efb2b85afafa1e21662b8cad436d1f7727",
        "vmfs_thick.vmdk,           2097152,  8d43c795d24bce01b49f92744f934c1072210dcac170bb1c83a5aa56df46ab7d"
    })
    void theContentIsThatOfTheManifest(String name, long size, String sha256) throws IOException {
        try (VmdkImage disk = Content.open(samples.resolve(name), Confinement.OWN_FOLDER)) {
            assertThat(disk.flat().size()).isEqualTo(size);
            assertThat(Content.sha256(disk.flat())).isEqualTo(sha256);
        }
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            value = {
                "cowd-badcid.vmdk | parentCID is deadbeef, expected aaaa0001, the CID of",
                "cowd-missingparent.vmdk | expected a file that exists",
                "twoGbMaxExtentSparse-s001.vmdk | expected a file that holds a descriptor",
                "vmfs_thick-000001.vmdk | file reference is \"vmfs_thick-000001-delta.vmdk\", expected a file that exists",
                "cowd-delta.vmdk | magic is COWD, expected a descriptor",
                "se-sesparse.vmdk | expected a sparse extent, or a descriptor of at most",
                "ext.bin | createType is missing, expected a VMDK"
            })
    void whatCannotBeReadRightIsRefusedWithItsReason(String name, String reason) {
        assertThatThrownBy(() -> Content.open(samples.resolve(name), Confinement.OWN_FOLDER))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining(reason);
    }

    @Test
    void theDescriptionShowsTheChainAndItsExtents() throws IOException {
        Description description = new Description();
        try (VmdkImage disk = Content.open(samples.resolve("cowd.vmdk"), Confinement.OWN_FOLDER)) {
            disk.describe(description);
        }
        List<Map<String, Object>> images = description.sections().getOrDefault("vmdk", List.of());
        assertThat(images).hasSize(2);
        assertThat(images.get(0))
                .containsEntry("create type", "vmfsSparse")
                .containsEntry("cid", "aaaa0002")
                .containsEntry("parent cid", "aaaa0001")
                .containsEntry("parent", "parent.vmdk")
                .containsEntry("size", 3148288L);
        assertThat(images.get(1)).containsEntry("create type", "vmfs").containsEntry("parent cid", "ffffffff");
        assertThat(description.sections().get("extents"))
                .extracting(row -> row.get("format"), row -> row.get("grain"))
                .containsExactly(tuple("COWD", 512L), tuple("flat", 0L));
    }
}

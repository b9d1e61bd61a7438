// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.disk;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Bytes;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import org.junit.jupiter.api.Test;

class FragmentsTest {
    private final FlatImage.Builder out = FlatImage.builder(512);
    private final Bytes sector = new Bytes("sector", new byte[512]);

    @Test
    void aDeviceOfAsManyPiecesAsThereIsMemoryForIsLaid() throws ImageException {
        // What the heap of a real process would say: the builder's own share is taken while it grows.
        long heap = Fragments.RESERVE + 4L * Fragments.STEP * Fragments.BYTES_EACH;
        lay(
                new Fragments(
                        "disk", () -> heap - (long) out.extentCount() * FlatImage.BYTES_PER_EXTENT, Fragments.MAX),
                5 * Fragments.STEP / 2);
    }

    @Test
    void oneOfMoreIsRefusedBeforeMemoryRunsOut() {
        long heap = Fragments.RESERVE + 4L * Fragments.STEP * Fragments.BYTES_EACH;
        Fragments fragments = new Fragments(
                "disk", () -> heap - (long) out.extentCount() * FlatImage.BYTES_PER_EXTENT, Fragments.MAX);
        assertThatThrownBy(() -> lay(fragments, 5 * Fragments.STEP))
                .isInstanceOf(ImageException.class)
                .hasMessageStartingWith("disk: fragments is more than ")
                .hasMessageEndingWith(" MiB has room for (java -Xmx)");
        assertThat(out.extentCount()).isBetween(2 * Fragments.STEP, 4 * Fragments.STEP);
    }

    @Test
    void thereIsALimitWhateverMemoryThereIs() {
        assertThatThrownBy(() -> lay(new Fragments("disk", () -> 1L << 50, 200_000), 300_000))
                .isInstanceOf(ImageException.class)
                .hasMessage("disk: fragments is more than 200000, expected at most 200000 separate extents");
        assertThat(out.extentCount()).isEqualTo(200_001);
    }

    private void lay(Fragments fragments, int count) throws ImageException {
        for (int i = 0; i < count; i++) {
            out.append(512, sector, 0);
            fragments.bound(out);
        }
    }
}

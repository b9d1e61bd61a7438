// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.TestImages;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.RepeatedTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Random geometries: what is composed covers the device without gap or overlap, and has every byte in its place. */
class GeometryPropertyTest {
    @TempDir
    private Path dir;

    @RepeatedTest(200)
    void everyByteIsInItsPlace() throws Exception {
        Geometry geometry = new Geometry();
        try (ErofsImage image = geometry.compose()) {
            assertCovered(image.flat());
            Path out = dir.resolve("out");
            TestImages.writeAll(image.flat(), out);
            assertThat(Files.readAllBytes(out)).as(geometry.toString()).isEqualTo(geometry.expected());
        }
    }

    @RepeatedTest(100)
    void anyOverlapIsRefused() throws Exception {
        Geometry geometry = new Geometry();
        int moved = geometry.random.nextInt(geometry.places.size());
        long[] place = geometry.places.get(moved);
        // onto a block of another slot, or of the metadata
        List<Long> taken = new ArrayList<>();
        for (int i = 0; i < geometry.places.size(); i++) {
            if (i != moved) {
                taken.add(geometry.places.get(i)[0]
                        + geometry.random.nextLong(geometry.places.get(i)[1]));
            }
        }
        taken.add(1 + geometry.random.nextLong(geometry.metaBlocks() - 1));
        long onto = taken.get(geometry.random.nextInt(taken.size()));
        place[0] = Math.max(1, onto - geometry.random.nextLong(Math.min(place[1], onto)));
        assertThatThrownBy(() -> geometry.compose().close())
                .as(geometry.toString())
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("uniaddr is");
    }

    @Test
    void anAppendedExtentContinuesItsNeighbour() throws Exception {
        Path blob = Files.write(dir.resolve("blob"), new byte[8192]);
        byte[] image = new ErofsBuilder(12).slot("", 2, 1).slot("", 3, 1).build();
        assertThat(image).hasSize(8192);
        try (ErofsImage composed = ErofsImages.fromFiles(
                Files.write(dir.resolve("meta"), image), List.of(blob, Files.copy(blob, dir.resolve("other"))))) {
            assertThat(composed.flat().extentCount()).isEqualTo(3);
        }
    }

    private static void assertCovered(FlatImage flat) {
        long at = 0;
        for (int i = 0; i < flat.extentCount(); i++) {
            Extent extent = flat.extent(i);
            assertThat(extent.start()).isEqualTo(at);
            assertThat(extent.length()).isPositive();
            at = extent.end();
        }
        assertThat(at).isEqualTo(flat.size());
    }

    private final class Geometry {
        private final long seed = System.nanoTime();
        private final Random random = new Random(seed);
        private final int bits = 9 + random.nextInt(4);
        private final List<long[]> places = new ArrayList<>(); // block, blocks, bytes behind
        private final int padding = random.nextInt(5000);

        Geometry() {
            System.out.println("seed " + seed);
            int slots = 1 + random.nextInt(20);
            long at = new ErofsBuilderOf(slots).build().length >> bits;
            for (int i = 0; i < slots; i++) {
                at += random.nextBoolean() ? 0 : random.nextInt(20);
                long blocks = 1 + random.nextInt(12);
                places.add(new long[] {at, blocks, random.nextBoolean() ? 0 : random.nextInt(3000)});
                at += blocks;
            }
            Collections.shuffle(places, random);
        }

        /** A table of so many slots, whose values do not matter for its length. */
        private final class ErofsBuilderOf {
            private final int slots;

            ErofsBuilderOf(int slots) {
                this.slots = slots;
            }

            byte[] build() {
                ErofsBuilder builder = new ErofsBuilder(bits).padding(padding);
                for (int i = 0; i < slots; i++) {
                    builder.slot("", 1, 1);
                }
                return builder.build();
            }
        }

        byte[] metadata() {
            ErofsBuilder builder = new ErofsBuilder(bits).padding(padding);
            places.forEach(place -> builder.slot("", place[0], place[1]));
            return builder.build();
        }

        long metaBlocks() {
            return metadata().length >> bits;
        }

        byte[] blob(int slot) {
            byte[] bytes = new byte[(int) ((places.get(slot)[1] << bits) + places.get(slot)[2])];
            new Random(seed + slot + 1).nextBytes(bytes);
            bytes[0] = 'd'; // not the magic number of a compressed file
            return bytes;
        }

        ErofsImage compose() throws IOException {
            List<Path> blobs = new ArrayList<>();
            for (int i = 0; i < places.size(); i++) {
                blobs.add(Files.write(dir.resolve("blob" + i), blob(i)));
            }
            return ErofsImages.fromFiles(Files.write(dir.resolve("meta"), metadata()), blobs);
        }

        byte[] expected() {
            long end = places.stream().mapToLong(p -> p[0] + p[1]).max().orElseThrow();
            byte[] all = Arrays.copyOf(metadata(), (int) (end << bits));
            for (int i = 0; i < places.size(); i++) {
                System.arraycopy(blob(i), 0, all, (int) (places.get(i)[0] << bits), (int) (places.get(i)[1] << bits));
            }
            return all;
        }

        @Override
        public String toString() {
            return "seed " + seed;
        }
    }
}

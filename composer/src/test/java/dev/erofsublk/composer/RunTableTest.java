// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

class RunTableTest {
    private static final int SECTOR = FlatImage.SECTOR;

    private final long seed = Long.getLong("seed", System.nanoTime());
    private final Random random = new Random(seed);

    @Test
    void everyByteIsInTheRunThatBeganLast() {
        System.out.println("RunTableTest seed " + seed);
        for (int round = 0; round < 300; round++) {
            // Some devices crowd all their runs into a small part; some have runs of very different lengths.
            long longest = 1L << random.nextInt(36);
            TreeMap<Long, Long> expected = new TreeMap<>();
            RunTable.Builder builder = new RunTable.Builder(random.nextInt(100));
            long size = 0;
            int count = 1 + random.nextInt(random.nextBoolean() ? 3 : 200);
            for (int i = 0; i < count; i++) {
                builder.add(size, ~i, 7L * i);
                expected.put(size, (long) i);
                size += SECTOR * (1 + (random.nextInt(10) == 0 ? random.nextLong(longest) : random.nextLong(3)));
            }
            RunTable table = builder.build(size);
            assertThat(table.runs()).isEqualTo(count);
            for (int i = 0; i < 1000; i++) {
                check(table, expected, random.nextLong(size), size);
            }
            for (long start : expected.keySet()) {
                check(table, expected, start, size);
                check(table, expected, Math.max(0, start - 1), size);
            }
            check(table, expected, size - 1, size);
        }
    }

    private static void check(RunTable table, TreeMap<Long, Long> expected, long offset, long size) {
        Map.Entry<Long, Long> run = expected.floorEntry(offset);
        Long next = expected.higherKey(offset);
        int found = table.run(offset);
        assertThat(found).isEqualTo(run.getValue().intValue());
        assertThat(table.delta(found)).isEqualTo(~run.getValue());
        assertThat(table.mark(found)).isEqualTo(7 * run.getValue());
        assertThat(table.end(found)).isEqualTo(next == null ? size : next);
    }

    @Test
    void aRunLikeTheOneBeforeContinuesIt() {
        RunTable.Builder builder = new RunTable.Builder(0);
        builder.add(0, 5, 1);
        builder.add(SECTOR, 5, 1);
        builder.add(2 * SECTOR, 6, 1);
        builder.add(3 * SECTOR, 6, 2);
        RunTable table = builder.build(4 * SECTOR);
        assertThat(table.runs()).isEqualTo(3);
        assertThat(table.end(0)).isEqualTo(2 * SECTOR);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;

class FlatImageReadTest {
    @Test
    void anyRangeIsReadAcrossExtents() throws Exception {
        long seed = System.nanoTime();
        System.out.println("seed " + seed);
        Random random = new Random(seed);
        byte[] content = new byte[100_000];
        random.nextBytes(content);
        Bytes source = new Bytes("content", content);
        FlatImage.Builder builder = FlatImage.builder(512);
        byte[] expected = new byte[512 * 8 * 40];
        for (int i = 0, at = 0; i < 40; i++) {
            int length = 512 * (1 + random.nextInt(8));
            int from = random.nextInt(content.length - length);
            if (random.nextInt(3) == 0) {
                builder.zeros(length);
            } else {
                builder.append(length, source, from);
                System.arraycopy(content, from, expected, at, length);
            }
            at += length;
        }
        FlatImage flat = builder.build();
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(flat.size());
            for (int round = 0; round < 500; round++) {
                int from = random.nextInt((int) flat.size());
                int length = random.nextInt((int) flat.size() - from + 1);
                MemorySegment part = buffer.asSlice(0, length).fill((byte) 7);
                flat.read(from, part);
                assertThat(part.toArray(ValueLayout.JAVA_BYTE))
                        .isEqualTo(Arrays.copyOfRange(expected, from, from + length));
            }
            assertThatThrownBy(() -> flat.read(1, buffer)).isInstanceOf(IndexOutOfBoundsException.class);
        }
    }
}

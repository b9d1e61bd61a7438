// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.ByteArrayOutputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Random;
import java.util.zip.CRC32;
import java.util.zip.Deflater;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

final class InflateTest {
    /** Text of many blocks with stretches of noise in it, which deflate stores, and so pads to a byte. */
    private static byte[] mixture(Random random) {
        ByteArrayOutputStream mixture = new ByteArrayOutputStream();
        for (int i = 0; i < 5; i++) {
            mixture.writeBytes(RafsImageTest.text(random, 30_000 + random.nextInt(60_000)));
            mixture.writeBytes(RafsImageTest.noise(random, random.nextInt(40_000)));
        }
        return mixture.toByteArray();
    }

    private static byte[] gzip(byte[] content, int level, int strategy) {
        Deflater deflater = new Deflater(level, true);
        deflater.setStrategy(strategy);
        deflater.setInput(content);
        deflater.finish();
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.writeBytes(new byte[] {0x1f, (byte) 0x8b, 8, 0, 0, 0, 0, 0, 0, 3});
        byte[] buffer = new byte[1 << 16];
        while (!deflater.finished()) {
            out.write(buffer, 0, deflater.deflate(buffer));
        }
        deflater.end();
        CRC32 crc = new CRC32();
        crc.update(content);
        for (long word : new long[] {crc.getValue(), content.length}) {
            for (int i = 0; i < 4; i++) {
                out.write((int) (word >> (8 * i)));
            }
        }
        return out.toByteArray();
    }

    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3})
    void startsAtAnyBlockWhateverBitItBeginsWith(long seed) throws Exception {
        BitSet seen = new BitSet();
        for (int level : new int[] {1, 6, 9}) {
            for (int strategy : new int[] {Deflater.DEFAULT_STRATEGY, Deflater.HUFFMAN_ONLY, Deflater.FILTERED}) {
                byte[] content = mixture(new Random(seed));
                byte[] file = gzip(content, level, strategy);
                DeflateBlocks blocks = new DeflateBlocks(file);
                assertThat(Arrays.equals(blocks.content(), content)).isTrue();
                for (DeflateBlocks.Block block : blocks.blocks()) {
                    seen.set((int) (block.bit() % 8));
                    assertThat(inflate(file, block, content))
                            .as("seed %d, bit %d", seed, block.bit())
                            .isTrue();
                }
            }
        }
        assertThat(seen.cardinality())
                .as("positions of a block's first bit in its byte")
                .isEqualTo(8);
    }

    private static boolean inflate(byte[] file, DeflateBlocks.Block block, byte[] content) throws Exception {
        int in = (int) ((block.bit() + 7) / 8);
        int odd = (int) (block.bit() % 8);
        byte[] dictionary = Arrays.copyOfRange(content, Math.max(0, block.out() - 32768), block.out());
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment encoded = arena.allocate(file.length - in);
            encoded.copyFrom(MemorySegment.ofArray(file).asSlice(in));
            MemorySegment out =
                    arena.allocate(Math.max(1, content.length - block.out())).asSlice(0, content.length - block.out());
            long n = Inflate.raw(odd == 0 ? 0 : 8 - odd, odd == 0 ? 0 : file[in - 1] & 0xff, dictionary, encoded, out);
            return n == out.byteSize()
                    && Arrays.equals(
                            out.toArray(ValueLayout.JAVA_BYTE),
                            Arrays.copyOfRange(content, block.out(), content.length));
        }
    }

    @Test
    void everyLeadInIsWholeBlocksOfNothing() {
        for (int bits = 1; bits < 8; bits++) {
            byte[] leadIn = Inflate.LeadIn.of(bits, 0);
            // Behind a gzip header, and ended by an empty last block of fixed codes: 1, 01, 0000000.
            byte[] file = Arrays.copyOf(new byte[] {0x1f, (byte) 0x8b, 8}, 10 + leadIn.length + 10);
            System.arraycopy(leadIn, 0, file, 10, leadIn.length);
            int at = (10 + leadIn.length) * 8 - bits;
            file[at / 8] |= (byte) (0b011 << at % 8);
            if (at % 8 > 5) {
                file[at / 8 + 1] |= (byte) (0b011 >> (8 - at % 8));
            }
            DeflateBlocks blocks = new DeflateBlocks(Arrays.copyOf(file, (at + 10 + 7) / 8 + 8));
            assertThat(blocks.content()).isEmpty();
            assertThat(blocks.blocks().getLast().bit()).isEqualTo(at);
        }
    }

    @Test
    void aGzipMemberOfAnotherChecksumIsRefused() throws Exception {
        byte[] content = RafsImageTest.text(new Random(3), 5000);
        byte[] file = RafsBuilder.gzip(content);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment out = arena.allocate(content.length);
            assertThat(Inflate.gzip(copy(arena, file), out, false)).isEqualTo(content.length);
            file[file.length - 6] ^= 1;
            assertThatThrownBy(() -> Inflate.gzip(copy(arena, file), out, false))
                    .isInstanceOf(MalformedException.class)
                    .hasMessageContaining("gzip checksum");
        }
    }

    @Test
    void aGzipMemberOfMoreBytesThanItShouldHaveIsNotOne() throws Exception {
        byte[] content = RafsImageTest.text(new Random(3), 5000);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment file = copy(arena, RafsBuilder.gzip(content));
            assertThat(Inflate.gzip(file, arena.allocate(4999), false)).isEqualTo(5000);
            assertThat(Inflate.gzip(file, arena.allocate(4999), true)).isEqualTo(4999);
            assertThat(Inflate.gzip(file, arena.allocate(5001), false)).isEqualTo(5000);
        }
    }

    private static MemorySegment copy(Arena arena, byte[] bytes) {
        MemorySegment segment = arena.allocate(bytes.length);
        segment.copyFrom(MemorySegment.ofArray(bytes));
        return segment;
    }
}

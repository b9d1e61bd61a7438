// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class AesXtsTest {
    /** Vectors 1, 2 and 15 of IEEE 1619-2007, annex B: key, tweak, plain text, cipher text. */
    @ParameterizedTest
    @CsvSource({
        "0000000000000000000000000000000000000000000000000000000000000000, 00000000000000000000000000000000,"
                + "0000000000000000000000000000000000000000000000000000000000000000,"
                + "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e",
        "1111111111111111111111111111111122222222222222222222222222222222, 33333333330000000000000000000000,"
                + "4444444444444444444444444444444444444444444444444444444444444444,"
                + "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0",
        "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0bfbebdbcbbbab9b8b7b6b5b4b3b2b1b0, 9a785634120000000000000000000000,"
                + "000102030405060708090a0b0c0d0e0f10, 6c1625db4671522d3d7599601de7ca09ed"
    })
    void decryptsTheVectorsOfTheStandard(String key, String tweak, String plain, String cipher) throws Exception {
        HexFormat hex = HexFormat.of();
        assertThat(decrypt(hex.parseHex(key), hex.parseHex(tweak), hex.parseHex(cipher)))
                .isEqualTo(hex.parseHex(plain));
        assertThat(RafsBuilder.xtsEncrypt(hex.parseHex(plain), hex.parseHex(key), hex.parseHex(tweak)))
                .as("the builder's own")
                .isEqualTo(hex.parseHex(cipher));
    }

    @Test
    void decryptsPiecesOfEveryLength() throws Exception {
        long seed = 11;
        Random random = new Random(seed);
        byte[] key = RafsImageTest.noise(random, 32);
        byte[] iv = RafsImageTest.noise(random, 16);
        for (int length = 1; length < 9000; length += length < 100 ? 1 : 1 + random.nextInt(300)) {
            byte[] plain = RafsImageTest.noise(random, length);
            assertThat(Arrays.equals(decrypt(key, iv, RafsBuilder.xtsEncrypt(plain, key, iv)), plain))
                    .as("seed %d, length %d", seed, length)
                    .isTrue();
        }
    }

    @Test
    void refusesAPieceShorterThanABlock() {
        assertThatThrownBy(() -> decrypt(new byte[32], new byte[16], new byte[15]))
                .isInstanceOf(MalformedException.class)
                .hasMessageContaining("15 bytes");
    }

    private static byte[] decrypt(byte[] key, byte[] iv, byte[] cipher) throws MalformedException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment piece = arena.allocate(cipher.length);
            piece.copyFrom(MemorySegment.ofArray(cipher));
            return new AesXts(key, iv).decrypt(piece).toArray(ValueLayout.JAVA_BYTE);
        }
    }
}

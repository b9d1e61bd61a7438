// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import java.io.ByteArrayOutputStream;
import java.util.ArrayList;
import java.util.List;

/**
 * Inflates a gzip file bit by bit, only to learn where its blocks begin: what the builder of a zran table needs and
 * java.util.zip does not tell. Slow, plain RFC 1951 and 1952, and nothing of the reader under test.
 */
final class DeflateBlocks {
    private static final int[] LENGTH_BASE = {
        3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227,
        258
    };
    private static final int[] LENGTH_EXTRA = {
        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0
    };
    private static final int[] DISTANCE_BASE = {
        1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097,
        6145, 8193, 12289, 16385, 24577
    };
    private static final int[] ORDER = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};

    private final byte[] in;
    private long bit;
    private byte[] out = new byte[1 << 16];
    private int outLength;
    private final List<Block> blocks = new ArrayList<>();

    /**
     * @param bit position of its first bit in the file
     * @param out offset of its first byte in the content
     * @param member where the content of its gzip member begins
     * @param endBit behind its last bit
     * @param endOut behind its last byte
     */
    record Block(long bit, int out, int member, long endBit, int endOut) {}

    DeflateBlocks(byte[] gzip) {
        in = gzip;
        int at = 0;
        while (at < in.length) {
            at = member(at);
        }
    }

    List<Block> blocks() {
        return blocks;
    }

    byte[] content() {
        return java.util.Arrays.copyOf(out, outLength);
    }

    private int member(int at) {
        int flags = in[at + 3];
        if (flags != 0) {
            throw new IllegalArgumentException("gzip flags " + flags + " are not for this test");
        }
        bit = (at + 10) * 8L;
        int start = outLength;
        boolean last;
        do {
            long first = bit;
            int firstOut = outLength;
            last = bits(1) == 1;
            switch (bits(2)) {
                case 0 -> stored();
                case 1 -> codes(fixed(0, 288), fixed(1, 30));
                case 2 -> dynamic();
                default -> throw new IllegalArgumentException("block type 3");
            }
            blocks.add(new Block(first, firstOut, start, bit, outLength));
        } while (!last);
        return (int) ((bit + 7) / 8) + 8;
    }

    private int bits(int n) {
        int value = 0;
        for (int i = 0; i < n; i++, bit++) {
            value |= (in[(int) (bit >> 3)] >> (bit & 7) & 1) << i;
        }
        return value;
    }

    private void put(byte b) {
        if (outLength == out.length) {
            out = java.util.Arrays.copyOf(out, out.length * 2);
        }
        out[outLength++] = b;
    }

    private void stored() {
        bit = (bit + 7) & ~7L;
        int length = bits(16);
        bits(16);
        for (int i = 0; i < length; i++) {
            put((byte) bits(8));
        }
    }

    private static int[] fixed(int kind, int count) {
        int[] lengths = new int[count];
        for (int i = 0; i < count; i++) {
            lengths[i] = kind == 1 ? 5 : i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
        }
        return lengths;
    }

    private void dynamic() {
        int literals = bits(5) + 257;
        int distances = bits(5) + 1;
        int codes = bits(4) + 4;
        int[] lengths = new int[19];
        for (int i = 0; i < codes; i++) {
            lengths[ORDER[i]] = bits(3);
        }
        int[] all = new int[literals + distances];
        for (int i = 0; i < all.length; ) {
            int symbol = symbol(lengths);
            if (symbol < 16) {
                all[i++] = symbol;
            } else {
                int value = symbol == 16 ? all[i - 1] : 0;
                int repeat = symbol == 16 ? 3 + bits(2) : symbol == 17 ? 3 + bits(3) : 11 + bits(7);
                for (int j = 0; j < repeat; j++) {
                    all[i++] = value;
                }
            }
        }
        codes(java.util.Arrays.copyOf(all, literals), java.util.Arrays.copyOfRange(all, literals, all.length));
    }

    private void codes(int[] literals, int[] distances) {
        while (true) {
            int symbol = symbol(literals);
            if (symbol < 256) {
                put((byte) symbol);
            } else if (symbol == 256) {
                return;
            } else {
                int length = LENGTH_BASE[symbol - 257] + bits(LENGTH_EXTRA[symbol - 257]);
                int d = symbol(distances);
                int distance = DISTANCE_BASE[d] + bits(d < 4 ? 0 : d / 2 - 1);
                for (int i = 0; i < length; i++) {
                    put(out[outLength - distance]);
                }
            }
        }
    }

    /** Canonical Huffman decoding, a bit at a time. */
    private int symbol(int[] lengths) {
        int[] counts = new int[16];
        for (int length : lengths) {
            counts[length]++;
        }
        counts[0] = 0;
        int code = 0;
        int first = 0;
        for (int length = 1; length < 16; length++) {
            code |= bits(1);
            int count = counts[length];
            if (code - first < count) {
                int nth = code - first;
                for (int s = 0; s < lengths.length; s++) {
                    if (lengths[s] == length && nth-- == 0) {
                        return s;
                    }
                }
            }
            first = (first + count) << 1;
            code <<= 1;
        }
        throw new IllegalArgumentException("no such code");
    }

    /** A tar archive of regular files, and where the content of each begins. */
    static byte[] tar(List<TarFile> files, List<Integer> offsets) {
        ByteArrayOutputStream tar = new ByteArrayOutputStream();
        for (TarFile file : files) {
            tar.writeBytes(RafsBuilder.tarHeader(file.name, file.content.length));
            offsets.add(tar.size());
            tar.writeBytes(file.content);
            tar.writeBytes(new byte[-file.content.length & 511]);
        }
        tar.writeBytes(new byte[1024]);
        return tar.toByteArray();
    }

    /** A file to be archived. */
    static final class TarFile {
        final String name;
        final byte[] content;

        TarFile(String name, byte[] content) {
            this.name = name;
            this.content = content;
        }
    }
}

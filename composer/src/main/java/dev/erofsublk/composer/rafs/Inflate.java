// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT_UNALIGNED;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.util.zip.CRC32;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/**
 * Deflate as blobs have it: a gzip member, or a stretch of a raw stream that begins in the middle of a byte.
 *
 * <p>{@link Inflater} lacks zlib's {@code inflatePrime}, which feeds the odd bits. A <em>lead-in</em> does the same: a
 * few deflate blocks that yield nothing and whose lengths in bits sum up to what the first byte lacks, so that the odd
 * bits follow them in their own byte and every later byte, as stored blocks need it, stays where it was. Two blocks are
 * enough, and both are plain RFC 1951:
 *
 * <ul>
 *   <li>the empty block of fixed codes, 10 bits: 0 (not last), 01 (fixed), 0000000 (end of block);
 *   <li>for an odd sum, an empty block of dynamic codes, 93 bits: a literal and the end of block have codes of one bit,
 *       and so has the only distance.
 * </ul>
 */
final class Inflate {
    private Inflate() {}

    /**
     * Inflates the first {@code out.byteSize()} bytes of a gzip member.
     *
     * @param prefix whether {@code in} may hold, and yield, more than that; the checksum at the end of the member is
     *     checked only if not
     * @return the bytes inflated; more than {@code out.byteSize()} where the member holds more than it should
     */
    static long gzip(MemorySegment in, MemorySegment out, boolean prefix) throws MalformedException {
        int start = gzipHeader(in);
        Inflater inflater = new Inflater(true);
        try {
            inflater.setInput(in.asSlice(start).asByteBuffer());
            int n = inflate(inflater, out.asByteBuffer());
            if (prefix || n < out.byteSize()) {
                return n;
            }
            if (inflate(inflater, ByteBuffer.allocate(1)) != 0) {
                return out.byteSize() + 1;
            }
            if (!inflater.finished() || inflater.getRemaining() < 8) {
                throw new MalformedException("gzip member is cut off", null);
            }
            CRC32 crc = new CRC32();
            crc.update(out.asByteBuffer());
            int expected = in.get(JAVA_INT_UNALIGNED, in.byteSize() - inflater.getRemaining());
            if ((int) crc.getValue() != expected) {
                throw new MalformedException(
                        "gzip checksum is %08x, expected %08x".formatted((int) crc.getValue(), expected), null);
            }
            return n;
        } finally {
            inflater.end();
        }
    }

    /** The length of the member header of RFC 1952. */
    private static int gzipHeader(MemorySegment in) throws MalformedException {
        long at = 10;
        if (in.byteSize() < at
                || (in.get(JAVA_BYTE, 0) & 0xff) != 0x1f
                || (in.get(JAVA_BYTE, 1) & 0xff) != 0x8b
                || in.get(JAVA_BYTE, 2) != 8) {
            throw new MalformedException("no gzip header", null);
        }
        int flags = in.get(JAVA_BYTE, 3);
        if ((flags & 4) != 0 && at + 2 <= in.byteSize()) { // FEXTRA
            at += 2 + (in.get(JAVA_BYTE, at) & 0xff) + ((in.get(JAVA_BYTE, at + 1) & 0xff) << 8);
        }
        for (int bit = 8; bit <= 16; bit <<= 1) { // FNAME, FCOMMENT: up to a zero byte
            if ((flags & bit) != 0) {
                while (at < in.byteSize() && in.get(JAVA_BYTE, at) != 0) {
                    at++;
                }
                at++;
            }
        }
        at += (flags & 2) != 0 ? 2 : 0; // FHCRC
        if (at >= in.byteSize()) {
            throw new MalformedException("gzip header is cut off", null);
        }
        return (int) at;
    }

    /**
     * Inflates {@code out.byteSize()} bytes of a raw stream.
     *
     * @param bits how many of the upper bits of {@code firstByte} are the first of the stream, 0 to 7
     * @param firstByte the byte before {@code in}
     * @param dictionary what precedes the bytes to inflate, at most 32 KiB
     * @return the bytes inflated
     */
    static long raw(int bits, int firstByte, byte[] dictionary, MemorySegment in, MemorySegment out)
            throws MalformedException {
        Inflater inflater = new Inflater(true);
        try {
            if (dictionary.length > 0) {
                inflater.setDictionary(dictionary);
            }
            ByteBuffer target = out.asByteBuffer();
            if (bits != 0) {
                byte[] leadIn = LeadIn.of(bits, firstByte);
                inflater.setInput(leadIn);
                inflate(inflater, target);
            }
            inflater.setInput(in.asByteBuffer());
            inflate(inflater, target);
            return target.position();
        } finally {
            inflater.end();
        }
    }

    /** Inflates until the target is full, the input is used up, or the stream ends. */
    private static int inflate(Inflater inflater, ByteBuffer target) throws MalformedException {
        int before = target.position();
        try {
            while (target.hasRemaining() && !inflater.finished()) {
                if (inflater.inflate(target) == 0) {
                    if (inflater.needsDictionary()) {
                        throw new MalformedException("deflate stream asks for a dictionary", null);
                    }
                    break; // needs more input
                }
            }
            return target.position() - before;
        } catch (DataFormatException e) {
            throw new MalformedException("damaged deflate data: " + e.getMessage(), e);
        }
    }

    /** Blocks without content that end where the odd bits begin. */
    static final class LeadIn {
        private byte[] bytes = new byte[16];
        private int length; // in bits

        private LeadIn() {}

        /** The lead-in whose last byte ends with the {@code bits} upper bits of {@code firstByte}; bits is 1 to 7. */
        static byte[] of(int bits, int firstByte) {
            LeadIn leadIn = new LeadIn();
            if (bits % 2 != 0) {
                leadIn.emptyDynamicBlock();
            }
            while ((leadIn.length + bits) % 8 != 0) {
                leadIn.emptyFixedBlock();
            }
            leadIn.put(firstByte >>> (8 - bits), bits);
            return java.util.Arrays.copyOf(leadIn.bytes, leadIn.length / 8);
        }

        private void emptyFixedBlock() {
            put(0b01 << 1, 3);
            put(0, 7);
        }

        private void emptyDynamicBlock() {
            put(0b10 << 1, 3);
            put(257 - 257, 5); // HLIT: literals and end of block
            put(1 - 1, 5); // HDIST: one distance
            put(18 - 4, 4); // HCLEN: 18 lengths, in the order 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1
            for (int symbol : new int[] {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1}) {
                put(symbol == 1 ? 1 : symbol == 18 || symbol == 0 ? 2 : 0, 3);
            }
            // Canonical codes: 1 -> 0; 0 -> 10; 18 -> 11. Lengths: literal 0 has 1, 255 have none, end of block 1.
            put(0b0, 1);
            put(0b11, 2);
            put(138 - 11, 7);
            put(0b11, 2);
            put(117 - 11, 7);
            put(0b0, 1);
            put(0b0, 1); // the distance: 1
            put(0b1, 1); // end of block, the second code of one bit
        }

        /** Appends the {@code count} lower bits of {@code value}, lowest first. */
        private void put(int value, int count) {
            for (int i = 0; i < count; i++, length++) {
                if (length / 8 == bytes.length) {
                    bytes = java.util.Arrays.copyOf(bytes, bytes.length * 2);
                }
                bytes[length / 8] |= (byte) ((value >>> i & 1) << length % 8);
            }
        }
    }
}

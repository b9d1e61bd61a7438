// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.security.GeneralSecurityException;
import java.util.Arrays;
import javax.crypto.Cipher;
import javax.crypto.spec.SecretKeySpec;

/**
 * AES-128 in XTS mode (IEEE 1619), which the JDK lacks: every piece of a blob is one data unit with the same tweak.
 *
 * <p>Not for secrecy: the key lies in the bootstrap, beside the data. Immutable and thread-safe.
 */
final class AesXts {
    static final int KEY_BYTES = 32;
    static final int BLOCK = 16;

    /** What Nydus makes of pieces shorter than a block: padded to one, then these two bytes (utils/src/crypt.rs). */
    private static final int PADDED = BLOCK + 2;

    private static final int SCRATCH = 256 * BLOCK;

    private final SecretKeySpec dataKey;
    private final byte[] firstTweak;

    /**
     * @param key the data key and the tweak key, 16 bytes each
     * @param iv the tweak before encryption, 16 bytes
     */
    AesXts(byte[] key, byte[] iv) {
        dataKey = new SecretKeySpec(key, 0, BLOCK, "AES");
        firstTweak = run(cipher(Cipher.ENCRYPT_MODE, new SecretKeySpec(key, BLOCK, BLOCK, "AES")), iv, BLOCK);
    }

    /**
     * Decrypts one piece in place.
     *
     * @param piece native memory, at least 16 bytes
     * @return what remains without padding, a prefix of {@code piece}
     */
    MemorySegment decrypt(MemorySegment piece) throws MalformedException {
        decryptUnit(piece);
        if (piece.byteSize() == PADDED
                && piece.get(ValueLayout.JAVA_BYTE, BLOCK) == 0x78
                && piece.get(ValueLayout.JAVA_BYTE, BLOCK + 1) == (byte) 0x90) {
            int padding = piece.get(ValueLayout.JAVA_BYTE, BLOCK - 1);
            if (padding < 0 || padding >= BLOCK) {
                throw new MalformedException("padding of " + padding + " bytes in an encrypted piece", null);
            }
            return piece.asSlice(0, BLOCK - padding);
        }
        return piece;
    }

    private void decryptUnit(MemorySegment piece) throws MalformedException {
        long size = piece.byteSize();
        if (size < BLOCK) {
            throw new MalformedException("an encrypted piece of " + size + " bytes, expected at least 16", null);
        }
        Cipher aes = cipher(Cipher.DECRYPT_MODE, dataKey);
        long tweakLow = longAt(firstTweak, 0);
        long tweakHigh = longAt(firstTweak, 8);
        int tail = (int) (size % BLOCK);
        long whole = tail == 0 ? size : size - tail - BLOCK; // the last whole block is part of the ciphertext stealing
        byte[] scratch = new byte[(int) Math.min(SCRATCH, Math.max(whole, 2 * BLOCK))];
        byte[] tweaks = new byte[scratch.length];
        for (long at = 0; at < whole; at += SCRATCH) {
            int n = (int) Math.min(SCRATCH, whole - at);
            for (int i = 0; i < n; i += BLOCK) {
                putLong(tweaks, i, tweakLow);
                putLong(tweaks, i + 8, tweakHigh);
                long carry = tweakHigh >> 63;
                tweakHigh = tweakHigh << 1 | tweakLow >>> 63;
                tweakLow = tweakLow << 1 ^ (carry & 0x87); // times x in GF(2^128)
            }
            MemorySegment.copy(piece, ValueLayout.JAVA_BYTE, at, scratch, 0, n);
            xor(scratch, tweaks, n);
            byte[] out = run(aes, scratch, n);
            xor(out, tweaks, n);
            MemorySegment.copy(out, 0, piece, ValueLayout.JAVA_BYTE, at, n);
        }
        if (tail != 0) {
            long nextHigh = tweakHigh << 1 | tweakLow >>> 63;
            long nextLow = tweakLow << 1 ^ (tweakHigh >> 63 & 0x87);
            byte[] last = new byte[BLOCK];
            MemorySegment.copy(piece, ValueLayout.JAVA_BYTE, whole, last, 0, BLOCK);
            // The last whole block was encrypted last, with the last tweak: it holds what the short one was short of.
            byte[] first = block(aes, last, nextLow, nextHigh);
            byte[] stolen = first.clone();
            MemorySegment.copy(piece, ValueLayout.JAVA_BYTE, whole + BLOCK, stolen, 0, tail);
            byte[] second = block(aes, stolen, tweakLow, tweakHigh);
            MemorySegment.copy(second, 0, piece, ValueLayout.JAVA_BYTE, whole, BLOCK);
            MemorySegment.copy(first, 0, piece, ValueLayout.JAVA_BYTE, whole + BLOCK, tail);
        }
    }

    private static byte[] block(Cipher aes, byte[] block, long tweakLow, long tweakHigh) {
        byte[] tweak = new byte[BLOCK];
        putLong(tweak, 0, tweakLow);
        putLong(tweak, 8, tweakHigh);
        byte[] in = block.clone();
        xor(in, tweak, BLOCK);
        byte[] out = run(aes, in, BLOCK);
        xor(out, tweak, BLOCK);
        return out;
    }

    private static Cipher cipher(int mode, SecretKeySpec key) {
        try {
            Cipher cipher = Cipher.getInstance("AES/ECB/NoPadding");
            cipher.init(mode, key);
            return cipher;
        } catch (GeneralSecurityException impossible) {
            throw new AssertionError(impossible); // every Java platform has AES
        }
    }

    private static byte[] run(Cipher cipher, byte[] in, int length) {
        try {
            return cipher.doFinal(in, 0, length);
        } catch (GeneralSecurityException impossible) {
            throw new AssertionError(impossible); // whole blocks and no padding: nothing to fail
        }
    }

    private static void xor(byte[] target, byte[] with, int length) {
        for (int i = 0; i < length; i++) {
            target[i] ^= with[i];
        }
    }

    private static long longAt(byte[] bytes, int at) {
        return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong(at);
    }

    private static void putLong(byte[] bytes, int at, long value) {
        ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putLong(at, value);
    }

    /** Whether a key is one that XTS may use: its halves must differ. */
    static boolean isUsable(byte[] key) {
        return !Arrays.equals(key, 0, BLOCK, key, BLOCK, KEY_BYTES);
    }
}

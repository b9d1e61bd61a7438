// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import org.apache.commons.codec.digest.Blake3;

/** How chunks are digested, code 0 and code 1 (utils/src/digest.rs); 32 bytes each. */
enum Digester {
    BLAKE3,
    SHA256;

    static final int CODES = 2;
    static final int BYTES = 32;
    private static final int SCRATCH = 64 << 10;

    /** The digest of {@code bytes}, native memory. */
    byte[] digest(MemorySegment bytes) {
        if (this == SHA256) {
            MessageDigest sha256 = sha256();
            sha256.update(bytes.asByteBuffer());
            return sha256.digest();
        }
        Blake3 blake3 = Blake3.initHash();
        byte[] scratch = new byte[(int) Math.min(SCRATCH, bytes.byteSize())];
        for (long at = 0; at < bytes.byteSize(); at += scratch.length) {
            int n = (int) Math.min(scratch.length, bytes.byteSize() - at);
            MemorySegment.copy(bytes, ValueLayout.JAVA_BYTE, at, scratch, 0, n);
            blake3.update(scratch, 0, n);
        }
        return blake3.doFinalize(BYTES);
    }

    static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException impossible) {
            throw new AssertionError(impossible); // every Java platform has it
        }
    }

    @Override
    public String toString() {
        return name().toLowerCase(java.util.Locale.ROOT);
    }
}

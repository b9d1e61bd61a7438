// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import dev.erofsublk.nbd.NbdInfo;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Optional;

/**
 * The backend identifier of a device of the nbd driver, by which it is known again: the driver lets only a server with
 * the same one take the device over, and shows it to anybody.
 *
 * @param key the token of a daemon's device, or {@code image-DIGEST} where a command serves it
 * @param directory whose daemon or command it is
 */
public record NbdIdentity(String key, String directory) {
    private static final String PROGRAM = "erofs-ublk";
    private static final int DIGEST_BYTES = 16;

    static NbdIdentity of(long token, StateDirectory state) {
        return new NbdIdentity(Long.toHexString(token), state.toString());
    }

    /**
     * For a command that serves an image itself, and is to know its device again when it is started again.
     *
     * @param connections of the device: the driver takes no other number later
     */
    public static NbdIdentity of(Image image, int connections, StateDirectory state) {
        FlatImage flat = image.flat();
        String what = image.format() + " " + flat.size() + " " + FileIdentity.of(flat);
        String digest = HexFormat.of().formatHex(sha256(what), 0, DIGEST_BYTES);
        return new NbdIdentity("image-%s-%d".formatted(digest, connections), state.toString());
    }

    private static byte[] sha256(String text) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java platform has SHA-256", e);
        }
    }

    /** What the device says; nothing if another program has made it. */
    public static Optional<NbdIdentity> of(NbdInfo device) {
        String[] parts = device.backend().split(" ", 3);
        return parts.length == 3 && parts[0].equals(PROGRAM)
                ? Optional.of(new NbdIdentity(parts[1], parts[2]))
                : Optional.empty();
    }

    /** Whether {@code device} is the one. */
    public boolean is(NbdInfo device) {
        return device.backend().equals(toString());
    }

    /** As the driver keeps it. */
    @Override
    public String toString() {
        return PROGRAM + " " + key + " " + directory;
    }
}

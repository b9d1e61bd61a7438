// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Decoded;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Source;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.function.LongConsumer;

/**
 * Compares content with the digests that an image has: a tag of 64 hexadecimal digits is the sha256 of its blob, and
 * what is decoded is compared piece by piece where the format has digests of pieces.
 */
public final class ContentCheck {
    private static final int SHA256_DIGITS = 64;
    private static final int BUFFER = 4 << 20;
    private static final int PROBLEMS_KEPT = 100;

    private final ErofsImage image;
    private final LongConsumer progress;
    private final List<String> problems = new ArrayList<>();
    private long done;
    private int digests;

    /** @param progress gets the bytes read so far */
    public ContentCheck(ErofsImage image, LongConsumer progress) {
        this.image = image;
        this.progress = progress;
    }

    /** Bytes that {@link #run} will read. */
    public long bytes() {
        return image.devices().stream()
                .filter(this::isChecked)
                .mapToLong(device -> device.blob().size())
                .sum();
    }

    /** The device's blobs that have a digest of any kind. */
    public int digests() {
        return digests;
    }

    private boolean isChecked(ErofsImage.Device device) {
        return device.blob() instanceof Decoded || (device.blob() instanceof Blob && hasDigest(device.slot()));
    }

    private boolean hasDigest(DeviceSlot slot) {
        String tag = slot.tag();
        // Nydus names a blob by a digest of its content before it was packed
        return !image.superblock().isRafs()
                && tag.length() == SHA256_DIGITS
                && tag.chars().allMatch(c -> Character.digit(c, 16) >= 0);
    }

    /** Reads what has digests, and says what is wrong, one line each. */
    public List<String> run() throws IOException {
        for (ErofsImage.Device device : image.devices()) {
            if (isChecked(device)) {
                digests++;
                switch (device.blob()) {
                    case Decoded decoded -> decode(decoded);
                    default -> compare(device);
                }
            }
        }
        return List.copyOf(problems);
    }

    private void problem(IOException e) {
        if (problems.size() < PROBLEMS_KEPT) {
            problems.add(String.valueOf(e.getMessage()));
        }
    }

    private void decode(Decoded decoded) {
        for (long at = 0; at < decoded.size(); at += decoded.unit()) {
            long length = Math.min(decoded.unit(), decoded.size() - at);
            try {
                decoded.ensure(at, length);
            } catch (IOException e) {
                problem(e);
            }
            progress.accept(done += length);
        }
    }

    private void compare(ErofsImage.Device device) throws IOException {
        Source blob = device.blob();
        long slotBytes = Math.min(
                blob.size(), device.slot().blocks() << image.superblock().blockBits());
        String tag = device.slot().tag().toLowerCase(Locale.ROOT);
        MessageDigest digest = sha256();
        hash(blob, 0, slotBytes, digest);
        String ofSlot = HexFormat.of().formatHex(copy(digest).digest());
        hash(blob, slotBytes, blob.size(), digest);
        String ofFile = HexFormat.of().formatHex(digest.digest());
        if (!tag.equals(ofSlot) && !tag.equals(ofFile)) {
            problem(new ImageException(
                    blob.name(),
                    "sha256",
                    ofFile,
                    tag + ", the tag of slot " + device.slot().number()));
        }
    }

    private void hash(Source blob, long from, long to, MessageDigest digest) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment buffer = arena.allocate(BUFFER, 4096);
            byte[] bytes = new byte[BUFFER];
            for (long at = from; at < to; ) {
                int length = (int) Math.min(BUFFER, to - at);
                blob.read(at, buffer.asSlice(0, length));
                MemorySegment.copy(buffer, ValueLayout.JAVA_BYTE, 0, bytes, 0, length);
                digest.update(bytes, 0, length);
                at += length;
                progress.accept(done += length);
            }
        }
    }

    private static MessageDigest copy(MessageDigest digest) {
        try {
            return (MessageDigest) digest.clone();
        } catch (CloneNotSupportedException e) {
            throw new IllegalStateException(e); // that of the JDK is cloneable
        }
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e); // every Java has it
        }
    }
}

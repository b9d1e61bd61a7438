// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.trace.ImageIdentity;
import dev.erofsublk.uring.Linux;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * What is written down of a device before it can be read: all that another process needs to serve the very same bytes
 * through it, and to notice when it could not.
 *
 * @param number of the device, with the backend that its spec names
 * @param token which the kernel keeps with the device: only where both agree is it the same one, as numbers are reused
 * @param size bytes of the device
 * @param format of the image
 * @param uuid of the image's superblock; empty if it has none
 * @param files behind it, as they were
 */
record DeviceRecord(
        int number, long token, DeviceSpec spec, long size, String format, String uuid, List<FileIdentity> files) {
    private static final int VERSION = 1;
    /** The upper half of every token of this program, "eUbk". */
    private static final long MAGIC = 0x6555626bL << 32;

    static long newToken() {
        return MAGIC | Linux.random() >>> Integer.SIZE;
    }

    /** Whether a device with this token was made by this program. */
    static boolean isOurs(long token) {
        return (token & -1L << 32) == MAGIC;
    }

    static DeviceRecord of(int number, long token, DeviceSpec spec, Image image) {
        FlatImage flat = image.flat();
        return new DeviceRecord(
                number,
                token,
                spec,
                flat.size(),
                image.format(),
                ImageIdentity.of(image).uuid(),
                FileIdentity.of(flat));
    }

    DeviceId id() {
        return new DeviceId(spec.backend(), number);
    }

    /** Why {@code image} is not what the device had, in words; nothing if it is. */
    Optional<String> difference(Image image) {
        DeviceRecord now = of(number, token, spec, image);
        if (files.size() != now.files.size()) {
            return Optional.of("there are %d files, expected %d".formatted(now.files.size(), files.size()));
        }
        for (int i = 0; i < files.size(); i++) {
            Optional<String> difference = files.get(i).difference(now.files.get(i));
            if (difference.isPresent()) {
                return difference;
            }
        }
        if (size != now.size) {
            return Optional.of("the image has %d bytes, expected %d".formatted(now.size, size));
        }
        if (!uuid.equals(now.uuid) || !format.equals(now.format)) {
            return Optional.of("the image is %s %s, expected %s %s".formatted(now.format, now.uuid, format, uuid));
        }
        return Optional.empty();
    }

    JsonObject toJson() {
        return new JsonObject()
                .put("version", VERSION)
                .put("id", number)
                .put("token", Long.toHexString(token))
                .put("spec", spec.toJson())
                .put("size", size)
                .put("format", format)
                .put("uuid", uuid)
                .put("files", files.stream().map(FileIdentity::toJson).toList());
    }

    static DeviceRecord fromJson(JsonObject json) throws DaemonException {
        json.integer("version", VERSION, VERSION);
        List<FileIdentity> files = new ArrayList<>();
        for (JsonObject file : json.objects("files")) {
            files.add(FileIdentity.fromJson(file));
        }
        return new DeviceRecord(
                json.integer("id", 0, DeviceId.MAX_NUMBER),
                token(json.string("token")),
                DeviceSpec.fromJson(json.object("spec")),
                json.number("size"),
                json.string("format"),
                json.string("uuid"),
                files);
    }

    private static long token(String text) throws DaemonException {
        try {
            return Long.parseUnsignedLong(text, 16);
        } catch (NumberFormatException e) {
            throw new DaemonException("field \"token\" is " + text + ", expected 16 hexadecimal digits");
        }
    }
}

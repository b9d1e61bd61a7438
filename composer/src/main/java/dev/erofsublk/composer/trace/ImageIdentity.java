// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.trace;

import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.Image;
import java.util.List;
import java.util.Map;

/**
 * By what a trace knows its image, on any machine and under any name.
 *
 * @param format of the image
 * @param uuid of its superblock; empty if it has none
 * @param size bytes of the device
 */
public record ImageIdentity(String format, String uuid, long size) {
    /** That of an open image. */
    public static ImageIdentity of(Image image) {
        return new ImageIdentity(image.format(), uuid(image), image.flat().size());
    }

    private static String uuid(Image image) {
        Description description = new Description();
        image.describe(description);
        for (Map<String, Object> row : description.sections().getOrDefault("superblock", List.of())) {
            Object uuid = row.get("uuid");
            if (uuid != null) {
                return uuid.toString();
            }
        }
        return "";
    }
}

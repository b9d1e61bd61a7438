// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.FlatImage;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/**
 * One image of a chain, laid over those below it.
 *
 * @param file the file that holds the descriptor
 * @param extents what there is to say about each
 * @param parent the image below, or null
 */
record Layer(
        String file,
        Descriptor descriptor,
        FlatImage flat,
        List<Facts> extents,
        @Nullable Layer parent) {

    /**
     * What a person wants to know about an extent.
     *
     * @param format {@code flat}, {@code zero}, {@code KDMV}, {@code COWD} or {@code seSparse}
     * @param grain bytes of a grain; 0 where there are none
     */
    record Facts(String file, Descriptor.ExtentLine line, String format, long grain, boolean compressed) {}

    void describe(Description description) {
        Map<String, Object> row = description.row("vmdk");
        row.put("file", file);
        row.put("create type", descriptor.createType());
        row.put("cid", Descriptor.hex(descriptor.cid()));
        row.put("parent cid", Descriptor.hex(descriptor.parentCid()));
        row.put("parent", descriptor.parentHint());
        row.put("size", flat.size());
        for (Facts facts : extents) {
            Map<String, Object> extent = description.row("extents");
            extent.put("image", file);
            extent.put("file", facts.file);
            extent.put("access", facts.line.access());
            extent.put("type", facts.line.type().name());
            extent.put("format", facts.format);
            extent.put("size", facts.line.sectors() * Limits.SECTOR);
            extent.put("offset", facts.line.offset() * Limits.SECTOR);
            extent.put("grain", facts.grain);
            extent.put("compressed", facts.compressed);
        }
        if (parent != null) {
            parent.describe(description);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Fields;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;

/**
 * How a differencing image names its parent.
 *
 * <pre>
 *   @0 GUID of the kind, b04aefb7-… for VHDX  @16 u16 0  @18 u16 KeyValueCount
 *   @20 entries of 12 bytes: u32 KeyOffset, u32 ValueOffset, u16 KeyLength, u16 ValueLength; UTF-16LE without NUL
 * </pre>
 *
 * @param linkages the DataWriteGuids that the parent may have: {@code parent_linkage}, then {@code parent_linkage2}
 * @param paths the paths by key, in the order in which they are tried
 */
record ParentLocator(List<UUID> linkages, Map<String, String> paths) {
    private static final UUID VHDX = UUID.fromString("b04aefb7-d19e-4a81-b789-25b8e9445913");
    private static final List<String> LINKAGE_KEYS = List.of("parent_linkage", "parent_linkage2");
    private static final String RELATIVE = "relative_path";
    private static final List<String> PATH_KEYS = List.of(RELATIVE, "volume_path", "absolute_win32_path");

    static ParentLocator parse(Fields locator) throws ImageException {
        if (locator.length() < 20) {
            throw locator.refuse("Length", locator.length(), "at least 20");
        }
        UUID kind = Guid.at(locator.bytes(), 0);
        if (!kind.equals(VHDX)) {
            throw locator.refuse("LocatorType", "{" + kind + "}", "{" + VHDX + "}");
        }
        int count = locator.u16(18);
        if (20 + 12 * count > locator.length()) {
            throw locator.refuse("KeyValueCount", count, "what fits into " + locator.length() + " bytes");
        }
        Map<String, String> pairs = new LinkedHashMap<>();
        for (int i = 0; i < count; i++) {
            int at = 20 + 12 * i;
            String key = text(locator, "entry " + i + ".Key", locator.u32(at), locator.u16(at + 8));
            String value = text(locator, "entry " + i + ".Value", locator.u32(at + 4), locator.u16(at + 10));
            if (pairs.put(key, value) != null) {
                throw locator.refuse("entry " + i + ".Key", key + " again", "each key once");
            }
        }
        List<UUID> linkages = new ArrayList<>();
        for (String key : LINKAGE_KEYS) {
            String value = pairs.get(key);
            if (value != null) {
                Optional<UUID> guid = Guid.parse(value);
                linkages.add(guid.orElseThrow(() -> locator.refuse(key, '"' + value + '"', "a GUID in braces")));
            }
        }
        if (!pairs.containsKey(LINKAGE_KEYS.get(0))) {
            throw locator.refuse("keys", pairs.keySet(), "parent_linkage among them");
        }
        Map<String, String> paths = new LinkedHashMap<>();
        for (String key : PATH_KEYS) {
            String path = pairs.get(key);
            if (path != null) {
                paths.put(key, path);
            }
        }
        if (paths.isEmpty()) {
            throw locator.refuse("keys", pairs.keySet(), "one of " + PATH_KEYS + " among them");
        }
        return new ParentLocator(List.copyOf(linkages), paths);
    }

    private static String text(Fields locator, String field, long offset, int length) throws ImageException {
        if (length == 0 || length % 2 != 0 || offset + length > locator.length()) {
            throw locator.refuse(
                    field, length + " bytes at " + offset, "UTF-16 inside the item of " + locator.length() + " bytes");
        }
        String text;
        try {
            text = StandardCharsets.UTF_16LE
                    .newDecoder()
                    .decode(locator.bytes().slice((int) offset, length))
                    .toString();
        } catch (CharacterCodingException e) {
            throw locator.refuse(field, "not UTF-16", "UTF-16LE text");
        }
        if (text.indexOf('\0') >= 0) {
            throw locator.refuse(field, "text with a NUL", "UTF-16LE text");
        }
        return text;
    }

    /**
     * The names to open, in the order of the specification. A volume or drive of the machine that wrote the image means
     * nothing here, so of such a path only the file's own name is tried, beside the child; that it is the right file
     * is proved by its DataWriteGuid.
     */
    List<String> references() {
        List<String> references = new ArrayList<>();
        paths.forEach((key, path) -> {
            String name = path.replace('\\', '/');
            String reference = key.equals(RELATIVE) ? name : name.substring(name.lastIndexOf('/') + 1);
            if (!references.contains(reference)) {
                references.add(reference);
            }
        });
        return references;
    }
}

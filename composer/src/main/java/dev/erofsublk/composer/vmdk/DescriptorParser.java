// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.vmdk.Descriptor.ExtentLine;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.Charset;
import java.nio.charset.IllegalCharsetNameException;
import java.nio.charset.StandardCharsets;
import java.nio.charset.UnsupportedCharsetException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Reads a {@link Descriptor}, line by line.
 *
 * <p>Every line is a comment, blank, {@code key=value} or an extent, and what is none of them is refused: QEMU skips
 * extents that it does not know, and later ones move to where they do not belong (facts/vmdisk.md §0.1). Keys may come
 * in any order, in any case and with blanks around {@code =}; a key that matters may come once.
 */
final class DescriptorParser {
    private static final Pattern KEY = Pattern.compile("([A-Za-z0-9_.:-]+)[ \t]*=[ \t]*(.*)");
    private static final Pattern EXTENT =
            Pattern.compile("(\\w+)[ \t]+([-+]?\\w+)[ \t]+(\\w+)(?:[ \t]+\"([^\"]*)\"(?:[ \t]+([-+]?\\w+))?)?");

    private final String file;
    private final Map<String, String> values = new HashMap<>();
    private final List<ExtentLine> extents = new ArrayList<>();
    private long sectors;

    private DescriptorParser(String file) {
        this.file = file;
    }

    /**
     * Parses {@code text}, up to its first NUL.
     *
     * @param file what messages call the file that holds it
     */
    static Descriptor parse(String file, byte[] text) throws ImageException {
        return new DescriptorParser(file).parse(text);
    }

    private Descriptor parse(byte[] text) throws ImageException {
        int length = 0;
        while (length < text.length && text[length] != 0) {
            length++;
        }
        // One char a byte: names are decoded once the encoding is known, and comments may be anything.
        String all = new String(text, 0, length, StandardCharsets.ISO_8859_1);
        if (!all.toLowerCase(Locale.ROOT).contains("createtype")) {
            throw refused("createType", "missing", "a VMDK: its magic, or a text with this key");
        }
        int number = 0;
        for (int start = 0; start < all.length(); ) {
            int end = all.indexOf('\n', start);
            end = end < 0 ? all.length() : end;
            parseLine(++number, all.substring(start, end).strip());
            start = end + 1;
        }
        String version = required("version");
        if (!version.equals("1") && !version.equals("2") && !version.equals("3")) {
            throw refused("version", version, "1, 2 or 3");
        }
        if (extents.isEmpty()) {
            throw refused("extents", "none", "at least one extent line");
        }
        String createType = required("createType");
        if (!CreateTypes.IN_FILES.contains(createType) && !CreateTypes.IN_ONE_FILE.contains(createType)) {
            throw refused("createType", quoted(createType), "a type whose extents are files, such as monolithicSparse");
        }
        Descriptor descriptor = new Descriptor(
                createType,
                contentId("CID"),
                contentId("parentCID"),
                decoded("parentFileNameHint", values.getOrDefault("parentfilenamehint", "")),
                decodedExtents());
        if (descriptor.hasParent() == descriptor.parentHint().isEmpty()) {
            throw refused(
                    "parentCID",
                    Descriptor.hex(descriptor.parentCid()),
                    descriptor.hasParent()
                            ? "ffffffff, since there is no parentFileNameHint"
                            : "the CID of the parent, since there is a parentFileNameHint");
        }
        return descriptor;
    }

    private void parseLine(int number, String line) throws ImageException {
        if (line.isEmpty() || line.startsWith("#")) {
            return;
        }
        Matcher key = KEY.matcher(line);
        if (key.matches()) {
            remember(number, key.group(1).toLowerCase(Locale.ROOT), key.group(2));
            return;
        }
        Matcher extent = EXTENT.matcher(line);
        if (!extent.matches()) {
            throw refusedLine(number, line, "a comment, key=value or an extent");
        }
        addExtent(number, line, extent);
    }

    private void remember(int number, String key, String value) throws ImageException {
        switch (key) {
            case "version", "encoding", "cid", "parentcid", "createtype", "parentfilenamehint" -> {
                if (values.put(key, unquoted(number, value)) != null) {
                    throw refusedLine(number, key, "the only line with this key");
                }
            }
            default -> {} // the disk data base and what concerns running virtual machines only
        }
    }

    private String unquoted(int number, String value) throws ImageException {
        if (!value.startsWith("\"")) {
            return value;
        }
        int end = value.indexOf('"', 1);
        if (end != value.length() - 1 || end == 0) {
            throw refusedLine(number, value, "a value that ends with the second quote");
        }
        return value.substring(1, end);
    }

    private void addExtent(int number, String line, Matcher parts) throws ImageException {
        String access = parts.group(1);
        if (!access.equals("RW") && !access.equals("RDONLY")) {
            throw refusedLine(number, line, "an extent with access RW or RDONLY");
        }
        long count = decimal(number, line, parts.group(2));
        sectors += count;
        if (count == 0 || sectors > Limits.DEVICE_SECTORS) {
            throw refusedLine(number, line, "an extent of 1 sector or more, and a disk of at most 2^40");
        }
        Descriptor.Type type = type(number, line, parts.group(3));
        String name = parts.group(4);
        String offset = parts.group(5);
        if ((name == null || name.isEmpty()) != (type == Descriptor.Type.ZERO)) {
            throw refusedLine(number, line, "an extent with a file name, or ZERO without one");
        }
        long start = offset == null ? 0 : decimal(number, line, offset);
        boolean rightOffset = switch (type) {
            case FLAT -> offset != null;
            case VMFS -> start == 0;
            default -> offset == null;
        };
        if (!rightOffset) {
            throw refusedLine(number, line, "an offset for FLAT, and none for other types");
        }
        if (name != null && name.length() > Limits.NAME_BYTES) {
            throw refusedLine(number, line, "a file name of at most " + Limits.NAME_BYTES + " bytes");
        }
        extents.add(new ExtentLine(number, access, count, type, name == null ? "" : name, start));
    }

    private Descriptor.Type type(int number, String line, String word) throws ImageException {
        for (Descriptor.Type type : Descriptor.Type.values()) {
            if (type.name().equals(word)) {
                return type;
            }
        }
        throw refusedLine(number, line, "an extent of type FLAT, VMFS, SPARSE, VMFSSPARSE, SESPARSE or ZERO");
    }

    private long decimal(int number, String line, String digits) throws ImageException {
        boolean plain = digits.length() <= 18;
        for (int i = 0; i < digits.length(); i++) {
            plain &= digits.charAt(i) >= '0' && digits.charAt(i) <= '9';
        }
        long value = plain ? Long.parseLong(digits) : -1;
        if (value < 0 || value > Limits.DEVICE_SECTORS) {
            throw refusedLine(number, line, "decimal numbers of sectors, at most 2^40");
        }
        return value;
    }

    private int contentId(String key) throws ImageException {
        String value = required(key);
        boolean hex = !value.isEmpty() && value.length() <= 8;
        for (int i = 0; i < value.length(); i++) {
            hex &= Character.digit(value.charAt(i), 16) >= 0 && value.charAt(i) < 0x80;
        }
        if (!hex) {
            throw refused(key, quoted(value), "1 to 8 hexadecimal digits");
        }
        return Integer.parseUnsignedInt(value, 16);
    }

    private String required(String key) throws ImageException {
        String value = values.get(key.toLowerCase(Locale.ROOT));
        if (value == null) {
            throw refused(key, "missing", "a VMDK descriptor with this key");
        }
        return value;
    }

    private List<ExtentLine> decodedExtents() throws ImageException {
        List<ExtentLine> decoded = new ArrayList<>(extents.size());
        for (ExtentLine e : extents) {
            String name = decoded("line " + e.line(), e.file());
            decoded.add(new ExtentLine(e.line(), e.access(), e.sectors(), e.type(), name, e.offset()));
        }
        return List.copyOf(decoded);
    }

    /** File names are in the descriptor's encoding; a name that is not would be that of another file. */
    private String decoded(String field, String latin1) throws ImageException {
        byte[] bytes = latin1.getBytes(StandardCharsets.ISO_8859_1);
        if (latin1.chars().allMatch(c -> c < 0x80)) {
            return latin1;
        }
        String encoding = values.getOrDefault("encoding", "UTF-8");
        try {
            return Charset.forName(encoding)
                    .newDecoder()
                    .decode(ByteBuffer.wrap(bytes))
                    .toString();
        } catch (CharacterCodingException | UnsupportedCharsetException | IllegalCharsetNameException e) {
            throw refused(field, "a file name in unknown letters", "letters of the encoding " + quoted(encoding));
        }
    }

    private static String quoted(String value) {
        return '"' + shortened(value) + '"';
    }

    private static String shortened(String value) {
        return value.length() > 200 ? value.substring(0, 200) + "…" : value;
    }

    private ImageException refused(String field, String found, String expected) {
        return new ImageException(file, field, found, expected);
    }

    private ImageException refusedLine(int number, String line, String expected) {
        return new ImageException(file, "descriptor line " + number, shortened(line), expected);
    }
}

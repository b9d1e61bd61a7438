// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.probe;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.vhd.VhdImage;
import dev.erofsublk.composer.vhdx.VhdxImage;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.regex.Pattern;

/**
 * Tells the format of an image in one file, where nobody has named it.
 *
 * <p>All bytes of a raw image belong to its tenant, who can write there the head of a VMDK whose extents are files of
 * the host, or of a VHDX with a parent. So content alone never makes a file one of these formats: it takes a name that
 * says the same, which only the host's owner can give. In order:
 *
 * <ol>
 *   <li>an EROFS superblock makes an EROFS image, whatever the name;
 *   <li>a name that promises a format ({@code .vhdx}, {@code .vhd}, {@code .vmdk}, …) and the content of that format
 *       make it; without the content it is refused;
 *   <li>a name that promises raw bytes ({@code .raw}, {@code .img}, {@code .iso}, {@code .bin}, {@code .dd}, and a
 *       VMDK's {@code -flat.vmdk} and {@code -f001.vmdk}) makes a raw image, whatever the content;
 *   <li>any other name makes a raw image, unless the content is that of another format: then the two possible meanings
 *       are for the user to choose from.
 * </ol>
 */
public final class Probe {
    private static final int HEAD_BYTES = 4096;
    private static final int EROFS_MAGIC = 0xE0F5E1E2;
    private static final int EROFS_MAGIC_AT = 1024;
    private static final int EROFS_SUPERBLOCK_BYTES = 128;
    private static final String VMDK_SPARSE = "KDMV";
    private static final String VMDK_COW = "COWD";
    private static final Pattern VMDK_DESCRIPTOR =
            Pattern.compile("(?im)\\A\\s*#\\s*disk\\s+descriptorfile|^\\s*createType\\s*=");
    private static final Pattern RAW_NAME =
            Pattern.compile("(?i).*(\\.(raw|img|iso|bin|dd)|-flat\\.vmdk|-f\\d{3,}\\.vmdk)");

    private Probe() {}

    /**
     * The format of {@code path}.
     *
     * @throws ImageException if name and content contradict each other, or the content could be a tenant's; the message
     *     asks for {@code --format}
     * @throws IOException if it cannot be read
     */
    public static Format format(Path path) throws IOException {
        try (Blob blob = Blob.open(path)) {
            return format(blob);
        }
    }

    /** The same for an open file. */
    public static Format format(Blob blob) throws IOException {
        byte[] head = read(blob, 0, (int) Math.min(HEAD_BYTES, blob.size()));
        if (isErofs(head)) {
            return Format.EROFS;
        }
        String name = String.valueOf(blob.path().getFileName());
        if (RAW_NAME.matcher(name).matches()) {
            return Format.RAW;
        }
        Optional<Format> promised = Format.promisedBy(name);
        if (promised.isEmpty()) {
            return unpromised(blob, head);
        }
        // A split VHD has its footer at the end of another file, and a fixed one no other mark: its reader will tell.
        if (promised.get() != Format.VHD && !looksLike(promised.get(), blob, head)) {
            throw new ImageException(
                    blob.name(),
                    "format",
                    "not " + promised.get() + " by content",
                    promised.get() + ", as the name says; say which with --format");
        }
        return promised.get();
    }

    private static Format unpromised(Blob blob, byte[] head) throws IOException {
        for (Format format : List.of(Format.VHDX, Format.VMDK, Format.VHD)) {
            if (looksLike(format, blob, head)) {
                throw new ImageException(
                        blob.name(),
                        "format",
                        format + " by content alone",
                        "a name that says so: a raw image can hold these bytes too; say which with --format " + format
                                + " or --format raw");
            }
        }
        return Format.RAW;
    }

    private static boolean isErofs(byte[] head) {
        return head.length >= EROFS_MAGIC_AT + EROFS_SUPERBLOCK_BYTES
                && ByteBuffer.wrap(head).order(ByteOrder.LITTLE_ENDIAN).getInt(EROFS_MAGIC_AT) == EROFS_MAGIC;
    }

    private static boolean looksLike(Format format, Blob blob, byte[] head) throws IOException {
        String text = new String(head, StandardCharsets.ISO_8859_1);
        return switch (format) {
            case VHDX -> text.startsWith(VhdxImage.SIGNATURE);
            case VMDK -> text.startsWith(VMDK_SPARSE) || text.startsWith(VMDK_COW) || isDescriptor(text);
            case VHD -> text.startsWith(VhdImage.COOKIE) || tail(blob).contains(VhdImage.COOKIE);
            case EROFS -> isErofs(head);
            case RAW -> true;
        };
    }

    private static boolean isDescriptor(String text) {
        int end = text.indexOf('\0');
        return VMDK_DESCRIPTOR.matcher(end < 0 ? text : text.substring(0, end)).find();
    }

    /** Where a VHD has its footer's cookie, whether of 512 or of 511 bytes. */
    private static String tail(Blob blob) throws IOException {
        if (blob.size() < 512) {
            return "";
        }
        return new String(read(blob, blob.size() - 512, 9), StandardCharsets.ISO_8859_1);
    }

    private static byte[] read(Blob blob, long offset, int length) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment segment = arena.allocate(Math.max(1, length)).asSlice(0, length);
            blob.read(offset, segment);
            return segment.toArray(ValueLayout.JAVA_BYTE);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Fields;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/**
 * The file that holds a VHD, or the files: Virtual PC splits a disk that outgrows its file system into {@code NAME.vhd},
 * {@code NAME.v01}, {@code NAME.v02} and so on, up to 64 files with nothing between or around them but the disk image,
 * so that the footer is at the end of the last.
 */
final class VhdFile implements AutoCloseable {
    private static final int MAX_PARTS = 64;
    /** Footers of Virtual PC before 2004 lack the last, reserved byte. */
    private static final int OLD_FOOTER = 511;

    private final List<Blob> parts;
    private final FlatImage bytes;
    private final Fields tail;

    private VhdFile(List<Blob> parts, FlatImage bytes, Fields tail) {
        this.parts = List.copyOf(parts);
        this.bytes = bytes;
        this.tail = tail;
    }

    /**
     * Finds the further parts of {@code first}, if it is split. Takes it over: closes it on failure.
     *
     * @throws ImageException if the files have sizes that no VHD has
     */
    static VhdFile open(Blob first, Confinement confinement) throws IOException {
        List<Blob> parts = new ArrayList<>();
        parts.add(first);
        try {
            checkSize(first);
            boolean complete = Footer.whole(tail(first));
            for (int i = 1; i <= MAX_PARTS && isPart(first, i); i++) {
                if (complete) {
                    throw new ImageException(
                            first.name(),
                            "split file",
                            "complete, with a footer, beside " + part(first, i),
                            "one or the other");
                }
                Blob before = parts.getLast();
                if (before.size() % FlatImage.SECTOR != 0 || i == MAX_PARTS) {
                    throw new ImageException(
                            before.name(),
                            "split file",
                            before.size() + " bytes, part " + i,
                            "whole sectors in all parts but the last, and at most " + MAX_PARTS + " parts");
                }
                Blob next = confinement.open(first.path(), part(first, i));
                parts.add(next);
                checkSize(next);
            }
            FlatImage.Builder bytes = FlatImage.builder(FlatImage.SECTOR);
            for (Blob part : parts) {
                bytes.append(part.size() & -FlatImage.SECTOR, part, 0);
            }
            return new VhdFile(parts, bytes.build(), tail(parts.getLast()));
        } catch (IOException | RuntimeException e) {
            parts.forEach(Blob::close);
            throw e;
        }
    }

    private static void checkSize(Blob part) throws ImageException {
        long odd = part.size() % FlatImage.SECTOR;
        if (part.size() < FlatImage.SECTOR || (odd != 0 && odd != OLD_FOOTER)) {
            throw new ImageException(
                    part.name(),
                    "size",
                    part.size(),
                    "a multiple of 512 bytes, or one less with a footer of 511 bytes");
        }
    }

    private static boolean isPart(Blob first, int number) {
        String name = part(first, number);
        return !name.isEmpty() && Files.exists(first.path().resolveSibling(name), LinkOption.NOFOLLOW_LINKS);
    }

    /** The name of part {@code number}, from 1; empty if {@code first} has no name that parts could go with. */
    private static String part(Blob first, int number) {
        String name = String.valueOf(first.path().getFileName());
        if (!name.toLowerCase(Locale.ROOT).endsWith(".vhd")) {
            return "";
        }
        return name.substring(0, name.length() - 2) + "%02d".formatted(number);
    }

    private static Fields tail(Blob last) throws IOException {
        int odd = (int) (last.size() % FlatImage.SECTOR);
        int length = odd == 0 ? Footer.BYTES : odd;
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment footer = arena.allocate(length);
            last.read(last.size() - length, footer);
            byte[] padded = Arrays.copyOf(footer.toArray(ValueLayout.JAVA_BYTE), Footer.BYTES);
            return new Fields(last.name(), "footer", ByteBuffer.wrap(padded).order(ByteOrder.BIG_ENDIAN));
        }
    }

    /** Everything up to the last whole sector, one part behind the other. */
    FlatImage bytes() {
        return bytes;
    }

    /** What is where the footer should be. */
    Fields tail() {
        return tail;
    }

    /** The byte at which that begins: nothing of the disk may lie behind it. */
    long tailOffset() {
        return bytes.size() - (parts.getLast().size() % FlatImage.SECTOR == 0 ? Footer.BYTES : 0);
    }

    Blob first() {
        return parts.getFirst();
    }

    String name() {
        return first().name();
    }

    List<Blob> parts() {
        return parts;
    }

    @Override
    public void close() {
        parts.forEach(Blob::close);
    }
}

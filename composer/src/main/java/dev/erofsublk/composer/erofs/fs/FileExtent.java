// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

/**
 * A range of a file's content and where it is.
 *
 * @param fileOffset its first byte in the file
 * @param length bytes of the file, positive
 * @param kind how they are stored
 * @param device the device id that the image gives: 0 for the unified space, else the number of a slot
 * @param address first byte on the flat device; 0 for a hole
 * @param stored bytes on the device: those of the file, or fewer if they are encoded, or 0 for a hole
 * @param codec how to decode them; {@link #NONE} unless encoded
 */
public record FileExtent(long fileOffset, long length, Kind kind, int device, long address, long stored, int codec) {
    /** The {@link #codec} of what is not encoded. */
    public static final int NONE = -1;

    /** How bytes of a file are stored. */
    public enum Kind {
        /** As they are, in blocks. */
        DATA,
        /** As they are, behind the inode. */
        INLINE,
        /** Not at all: they are zeros. */
        HOLE,
        /** Compressed. */
        ENCODED
    }

    static FileExtent hole(long fileOffset, long length) {
        return new FileExtent(fileOffset, length, Kind.HOLE, 0, 0, 0, NONE);
    }

    static FileExtent plain(long fileOffset, long length, Kind kind, int device, long address) {
        return new FileExtent(fileOffset, length, kind, device, address, length, NONE);
    }

    /** The byte of the file behind it. */
    public long end() {
        return fileOffset + length;
    }

    /** Whether {@code next} goes on where this ends, in the file and on the device. */
    boolean continuedBy(FileExtent next) {
        return kind == next.kind
                && kind != Kind.ENCODED
                && device == next.device
                && end() == next.fileOffset
                && (kind == Kind.HOLE || address + length == next.address);
    }

    FileExtent with(FileExtent next) {
        return new FileExtent(fileOffset, length + next.length, kind, device, address, stored + next.stored, codec);
    }
}

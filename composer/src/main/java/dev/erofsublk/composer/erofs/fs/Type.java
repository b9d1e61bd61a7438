// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import org.jspecify.annotations.Nullable;

/** The kinds of files there are. */
public enum Type {
    REGULAR(0100000, 1, '-'),
    DIRECTORY(0040000, 2, 'd'),
    CHARACTER_DEVICE(0020000, 3, 'c'),
    BLOCK_DEVICE(0060000, 4, 'b'),
    FIFO(0010000, 5, 'p'),
    SOCKET(0140000, 6, 's'),
    SYMLINK(0120000, 7, 'l');

    private static final int S_IFMT = 0170000;

    private final int mode;
    private final int entryType;
    private final char letter;

    Type(int mode, int entryType, char letter) {
        this.mode = mode;
        this.entryType = entryType;
        this.letter = letter;
    }

    /** The type's bits in {@code st_mode}. */
    public int mode() {
        return mode;
    }

    /** The number by which directory entries know it ({@code EROFS_FT_*}, as {@code FT_*} of linux/fs_types.h). */
    int entryType() {
        return entryType;
    }

    /** The first letter of a line of {@code ls -l}. */
    public char letter() {
        return letter;
    }

    static @Nullable Type of(int mode) {
        return switch (mode & S_IFMT) {
            case 0100000 -> REGULAR;
            case 0040000 -> DIRECTORY;
            case 0020000 -> CHARACTER_DEVICE;
            case 0060000 -> BLOCK_DEVICE;
            case 0010000 -> FIFO;
            case 0140000 -> SOCKET;
            case 0120000 -> SYMLINK;
            default -> null;
        };
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/** A name in a directory and the inode that it is of. */
public final class DirectoryEntry {
    private final byte[] name;
    private final long nid;
    private final int entryType;

    /** @param name 1 to 255 bytes without NUL and slash; not copied, not to be changed afterwards */
    DirectoryEntry(byte[] name, long nid, int entryType) {
        this.name = name;
        this.nid = nid;
        this.entryType = entryType;
    }

    /** The name as text, which it need not be: bytes that are no UTF-8 become replacement characters. */
    public String name() {
        return text(name);
    }

    static String text(byte[] name) {
        return new String(name, StandardCharsets.UTF_8);
    }

    /** The inode's number. */
    public long nid() {
        return nid;
    }

    /** The type as the directory states it, an {@code EROFS_FT_*}; 0 if it does not. */
    int entryType() {
        return entryType;
    }

    byte[] bytes() {
        return name;
    }

    boolean isNamed(byte[] other) {
        return Arrays.equals(name, other);
    }

    /** Whether it is {@code .} or {@code ..}. */
    public boolean isDot() {
        return name[0] == '.' && (name.length == 1 || (name.length == 2 && name[1] == '.'));
    }
}

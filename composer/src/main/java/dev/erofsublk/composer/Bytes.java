// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import java.lang.foreign.MemorySegment;
import java.util.Objects;

/** Bytes in memory, for example a repaired superblock that stands in for the one of the file. */
public final class Bytes implements Source {
    private final String name;
    private final byte[] content;

    /**
     * @param name what they are, for example {@code "meta.erofs (repaired)"}
     * @param content the bytes; not copied, not to be changed afterwards
     */
    public Bytes(String name, byte[] content) {
        this.name = name;
        this.content = content;
    }

    @Override
    public String name() {
        return name;
    }

    @Override
    public long size() {
        return content.length;
    }

    @Override
    public void read(long offset, MemorySegment target) {
        Objects.checkFromIndexSize(offset, target.byteSize(), content.length);
        MemorySegment.copy(MemorySegment.ofArray(content), offset, target, 0, target.byteSize());
    }

    @Override
    public void close() {}
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/**
 * Reads for a wire that has to look at the data itself, to encrypt it: from the files into a buffer, piece by piece, and
 * never by Java from the mapping.
 */
final class CopiedReads implements Reads {
    /** Bytes of a piece. A reply that is not longer is either all data or an error. */
    static final int PIECE = 1 << 20;

    private final Export export;
    private final AllocationMap allocation;
    private final Outbox out;
    private final MemorySegment buffer;
    private int used;

    CopiedReads(Arena arena, Export export, Outbox out) {
        this.export = export;
        this.out = out;
        allocation = export.allocation();
        buffer = arena.allocate(PIECE, 4096);
    }

    @Override
    public boolean isReady(long offset, int length) {
        return true; // reading waits, and tells of errors
    }

    @Override
    public boolean load(long offset, int length) {
        return true;
    }

    @Override
    public void simple(long cookie, long offset, int length) throws IOException {
        MemorySegment piece = read(offset, Math.min(length, PIECE));
        if (piece == null) {
            out.simple(cookie, Nbd.EIO);
            return;
        }
        out.beginSimple(cookie);
        out.data(piece.address(), piece.byteSize());
        addRest(offset + piece.byteSize(), offset + length);
        out.end();
    }

    @Override
    public void structured(long cookie, boolean whole, long offset, int length) throws IOException {
        if (!whole) {
            chunks(cookie, offset, offset + length);
            return;
        }
        MemorySegment piece = read(offset, Math.min(length, PIECE));
        if (piece == null) {
            out.errorChunk(cookie, Nbd.EIO);
            return;
        }
        out.beginStructured(cookie);
        out.dataChunk(true, offset, length);
        out.data(piece.address(), piece.byteSize());
        addRest(offset + piece.byteSize(), offset + length);
        out.end();
    }

    private void chunks(long cookie, long start, long end) throws IOException {
        int range = allocation.indexOf(start);
        for (long at = start; at < end; ) {
            long stop = Math.min(end, allocation.end(range));
            if (allocation.isHole(range)) {
                out.beginStructured(cookie);
                out.holeChunk(stop == end, at, stop - at);
                out.end();
            } else {
                stop = Math.min(stop, at + PIECE);
                MemorySegment piece = read(at, (int) (stop - at));
                if (piece == null) {
                    out.errorChunk(cookie, Nbd.EIO);
                    return;
                }
                out.beginStructured(cookie);
                out.dataChunk(stop == end, at, stop - at);
                out.data(piece.address(), piece.byteSize());
                out.end();
            }
            if (stop == allocation.end(range)) {
                range++;
            }
            at = stop;
        }
    }

    /** The rest of a reply whose header is on its way: an error can only be told by hanging up. */
    private void addRest(long start, long end) throws IOException {
        for (long at = start; at < end; at += PIECE) {
            MemorySegment piece = read(at, (int) Math.min(PIECE, end - at));
            if (piece == null) {
                throw Disconnect.because("bytes of the image could not be read while they were being sent");
            }
            out.data(piece.address(), piece.byteSize());
        }
    }

    /** Reads into the buffer, which is sent first if it has no room; null if the bytes cannot be had. */
    private @Nullable MemorySegment read(long offset, int length) throws IOException {
        if (used + length > PIECE) {
            out.flush();
            used = 0;
        }
        MemorySegment piece = buffer.asSlice(used, length);
        try {
            export.read(offset, piece);
        } catch (IOException e) {
            return null;
        }
        used += length;
        return piece;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import dev.erofsublk.composer.AddressSpace;
import java.io.IOException;

/**
 * Reads of which the kernel takes the data from the mapping.
 *
 * <p>Where a bad address would be found too late to say so (see {@link Outbox}), the kernel is asked for the pages
 * before.
 */
final class MappedReads implements Reads {
    private final Export export;
    private final AddressSpace space;
    private final AllocationMap allocation;
    private final Outbox out;
    private final boolean atomic;

    MappedReads(Export export, Outbox out, boolean atomic) {
        this.export = export;
        this.out = out;
        this.atomic = atomic;
        space = export.space();
        allocation = export.allocation();
    }

    @Override
    public boolean isReady(long offset, int length) {
        if (export.isReady(offset, length)) {
            return true;
        }
        export.prefetch(offset, length);
        return false;
    }

    @Override
    public boolean load(long offset, int length) {
        return export.load(offset, length);
    }

    @Override
    public void simple(long cookie, long offset, int length) throws IOException {
        if ((!atomic || length > Outbox.ATOMIC_BYTES) && !export.isReadable(offset, length)) {
            out.simple(cookie, Nbd.EIO);
            return;
        }
        out.beginSimple(cookie);
        addPieces(offset, offset + length);
        out.end();
    }

    @Override
    public void structured(long cookie, boolean whole, long offset, int length) throws IOException {
        if (!atomic && !export.isReadable(offset, length)) {
            out.errorChunk(cookie, Nbd.EIO);
            return;
        }
        boolean closing = atomic && length > Outbox.ATOMIC_BYTES && !isHole(offset, length);
        out.beginStructured(cookie);
        if (whole) {
            out.dataChunk(!closing, offset, length);
            addPieces(offset, offset + length);
        } else {
            addChunks(!closing, offset, offset + length);
        }
        if (closing) {
            out.closing();
        }
        out.end();
    }

    private boolean isHole(long offset, int length) {
        int range = allocation.indexOf(offset);
        return allocation.isHole(range) && allocation.end(range) >= offset + length;
    }

    private void addChunks(boolean done, long start, long end) throws IOException {
        int range = allocation.indexOf(start);
        for (long at = start; at < end; range++) {
            long stop = Math.min(end, allocation.end(range));
            boolean last = done && stop == end;
            if (allocation.isHole(range)) {
                out.holeChunk(last, at, stop - at);
            } else {
                out.dataChunk(last, at, stop - at);
                addMapped(at, stop);
            }
            at = stop;
        }
    }

    private void addPieces(long start, long end) throws IOException {
        int range = allocation.indexOf(start);
        for (long at = start; at < end; range++) {
            long stop = Math.min(end, allocation.end(range));
            if (allocation.isHole(range)) {
                out.zeros(stop - at); // not those of the mapping: they would cost page tables
            } else {
                addMapped(at, stop);
            }
            at = stop;
        }
    }

    private void addMapped(long start, long end) throws IOException {
        int run = space.run(start);
        for (long at = start; at < end; run++) {
            long stop = Math.min(end, space.runEnd(run));
            out.data(space.address(run, at), stop - at);
            at = stop;
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Source;
import dev.erofsublk.composer.disk.Fragments;
import org.jspecify.annotations.Nullable;

/**
 * A device being laid over its parent: what it does not hold itself comes from there, and without a parent, or beyond
 * its end, is zeros. Chains cost nothing at run time: each layer is laid over the flat image of all below it.
 */
final class Overlay {
    private final FlatImage.Builder out;
    private final @Nullable FlatImage parent;
    private final Fragments fragments;
    private int cursor; // the parent's extent at which the next search starts: both are walked in ascending order

    /** @param file the image's name for messages */
    Overlay(String file, FlatImage.Builder out, @Nullable FlatImage parent) {
        this.out = out;
        fragments = new Fragments(file);
        this.parent = parent;
    }

    /** Bytes laid so far. */
    long size() {
        return out.size();
    }

    void data(long length, Source source, long offset) throws ImageException {
        out.append(length, source, offset);
        fragments.bound(out);
    }

    void zeros(long length) throws ImageException {
        out.zeros(length);
        fragments.bound(out);
    }

    /** The next {@code length} bytes are the parent's. */
    void inherit(long length) throws ImageException {
        long end = out.size() + length;
        if (parent != null) {
            inheritFrom(parent, Math.min(end, parent.size()));
        }
        out.zerosTo(end);
        fragments.bound(out);
    }

    private void inheritFrom(FlatImage parent, long end) throws ImageException {
        while (out.size() < end) {
            Extent extent = parent.extent(cursor);
            if (extent.end() <= out.size()) {
                cursor++;
                continue;
            }
            long skip = out.size() - extent.start();
            long length = Math.min(extent.end(), end) - out.size();
            out.append(length, extent.source(), extent.sourceOffset() + skip);
            fragments.bound(out);
        }
    }
}

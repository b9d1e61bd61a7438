// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.cache.CacheDirectory;
import java.io.IOException;
import java.nio.file.Path;

/**
 * A VMware virtual disk, read-only: every form of it whose bytes are in files.
 *
 * <p>That is sparse, flat and stream-optimised disks in one file or many, those of ESX ({@code vmfs}, {@code COWD},
 * {@code seSparse}), and chains of them. Everything is checked when it is opened except what would need all the data
 * to be read: compressed grains are checked when they are decoded.
 *
 * <p>Thread-safe once opened.
 */
public final class VmdkImage implements Image {
    private final Layer top;
    private final OpenFiles files;

    private VmdkImage(Layer top, OpenFiles files) {
        this.top = top;
        this.files = files;
    }

    /**
     * Opens the disk that {@code path} describes: a descriptor, or a file that holds one.
     *
     * @param confinement where its extents and parents may lie
     * @param cache where compressed grains are decoded to
     * @throws ImageException naming file, field, value and expectation, if serving it would give wrong bytes
     * @throws IOException if a file cannot be read
     */
    public static VmdkImage open(Path path, Confinement confinement, CacheDirectory cache) throws IOException {
        OpenFiles files = new OpenFiles(confinement, cache);
        try {
            Layer top = new LayerReader(files).read(files.open(path));
            files.keepOnly(top.flat().sources());
            return new VmdkImage(top, files);
        } catch (IOException | RuntimeException e) {
            files.close();
            throw e;
        }
    }

    @Override
    public String format() {
        return "vmdk";
    }

    @Override
    public FlatImage flat() {
        return top.flat();
    }

    @Override
    public void describe(Description description) {
        top.describe(description);
    }

    /** Closes all files, also those that {@link #flat()} needs only for decoding. */
    @Override
    public void close() {
        files.close();
    }

    @Override
    public String toString() {
        return "VmdkImage[" + top.file() + ", " + top.descriptor().createType() + "]";
    }
}

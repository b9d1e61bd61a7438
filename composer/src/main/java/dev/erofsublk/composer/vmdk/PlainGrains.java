// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.ImageException;

/** Lays grains that are stored as they are. */
final class PlainGrains implements Grains {
    private final Overlay out;
    private final SectorFile file;
    private final long grainBytes;
    private final long end;
    private final long room;
    private long stored;

    /**
     * @param bytes of the extent, which starts where {@code out} is
     * @param lowestGrain the first sector of the file at which a grain may be
     */
    PlainGrains(Overlay out, SectorFile file, long grainBytes, long bytes, long lowestGrain) {
        this.out = out;
        this.file = file;
        this.grainBytes = grainBytes;
        end = out.size() + bytes;
        room = file.blob().size() - lowestGrain * Limits.SECTOR;
    }

    /** Grains found in the file. */
    long stored() {
        return stored;
    }

    @Override
    public void absent(long count) {
        out.inherit(Math.min(count * grainBytes, end - out.size()));
    }

    @Override
    public void zero(long count) {
        out.zeros(Math.min(count * grainBytes, end - out.size()));
    }

    @Override
    public void stored(long sector) throws ImageException {
        // No two grains share bytes, so a grain size that is too large shows in their sum. The last may be short.
        if (stored++ * grainBytes >= room) {
            throw new ImageException(
                    file.name(), "grainSize", grainBytes + " bytes", "one with which all grains fit into the file");
        }
        out.data(Math.min(grainBytes, end - out.size()), file.blob(), sector * Limits.SECTOR);
    }
}

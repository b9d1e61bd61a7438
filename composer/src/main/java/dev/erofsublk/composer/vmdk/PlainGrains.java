// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import dev.erofsublk.composer.ImageException;
import java.io.IOException;

/** Lays grains that are stored as they are. */
final class PlainGrains implements Grains {
    private final Overlay out;
    private final SectorFile file;
    private final long grainBytes;
    private final long end;
    private final long room;
    private long stored;
    private long previous = -1;
    private long lowest = Long.MAX_VALUE;
    private long highest = -1;

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

    /**
     * Refuses a file with data between {@code from} and the first grain or behind the last one, up to {@code to}: it
     * would belong to nobody, which tells that the tables were not where the header says. Needed where there is no
     * second directory that would tell.
     */
    void requireNothingElse(long from, long to) throws IOException {
        boolean orphans = highest < 0
                ? file.hasData(from, to)
                : file.hasData(from, Math.min(lowest, to)) || file.hasData(highest + grainBytes / Limits.SECTOR, to);
        new Checks(file.name())
                .that(!orphans, "gdOffset", "that of a directory without", "the grains that the file holds");
    }

    @Override
    public void absent(long count) throws ImageException {
        out.inherit(Math.min(count * grainBytes, end - out.size()));
    }

    @Override
    public void zero(long count) throws ImageException {
        out.zeros(Math.min(count * grainBytes, end - out.size()));
    }

    @Override
    public void stored(long sector) throws ImageException {
        // No two grains share bytes, so a grain size that is too large shows in neighbours and in the sum of all.
        long grainSectors = grainBytes / Limits.SECTOR;
        boolean apart = previous < 0 || Math.abs(sector - previous) >= grainSectors;
        if (!apart || stored * grainBytes >= room) {
            throw new ImageException(
                    file.name(), "grainSize", grainSectors + " sectors", "one with which grains do not overlap");
        }
        stored++;
        previous = sector;
        lowest = Math.min(lowest, sector);
        highest = Math.max(highest, sector);
        out.data(Math.min(grainBytes, end - out.size()), file.blob(), sector * Limits.SECTOR);
    }
}

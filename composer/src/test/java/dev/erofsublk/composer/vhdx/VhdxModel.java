// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import java.nio.ByteBuffer;

/**
 * What the specification makes of a {@link VhdxBuilder}'s file, in the plainest way: the second opinion of the
 * corruption tests on numbers that define the content.
 */
final class VhdxModel {
    private VhdxModel() {}

    /** @param parent the parent's content; empty for a plain image */
    static byte[] content(ByteBuffer file, byte[] parent) {
        int size = (int) file.getLong(VhdxBuilder.METADATA + VhdxBuilder.VIRTUAL_SIZE);
        int block = file.getInt(VhdxBuilder.METADATA + VhdxBuilder.FILE_PARAMETERS);
        int sector = file.getInt(VhdxBuilder.METADATA + VhdxBuilder.SECTOR_SIZE);
        int ratio = (int) ((1L << 23) * sector / block);
        byte[] content = new byte[size];
        for (int at = 0; at < size; at += sector) {
            int index = at / block;
            int chunk = index / ratio;
            long entry = file.getLong(VhdxBuilder.BAT + 8 * (index + chunk));
            int place = (int) (entry >>> 20 << 20) + at % block;
            boolean here = false;
            boolean theirs = false;
            switch ((int) (entry & 7)) {
                case 0 -> theirs = true;
                case 6 -> here = true;
                case 7 -> {
                    long bitmap = file.getLong(VhdxBuilder.BAT + 8 * (chunk * (ratio + 1) + ratio)) >>> 20 << 20;
                    int bit = at / sector % (1 << 23);
                    here = (file.get((int) bitmap + bit / 8) >> bit % 8 & 1) == 1;
                    theirs = !here;
                }
                default -> {}
            }
            if (here) {
                file.get(place, content, at, sector);
            } else if (theirs && at < parent.length) {
                System.arraycopy(parent, at, content, at, sector);
            }
        }
        return content;
    }
}

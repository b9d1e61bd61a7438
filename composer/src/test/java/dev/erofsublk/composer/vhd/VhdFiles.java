// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.BitSet;

/** Whole disks in VHD files, for tests of other packages. */
public final class VhdFiles {
    private static final int BLOCK = 2 << 20;
    private static final int SECTOR = 512;

    private VhdFiles() {}

    /**
     * A differencing disk with the content of {@code raw}, and beside it its parent: of each block one third of the
     * sectors is in the child, and the parent has other bytes there.
     */
    public static Path differencing(Path raw, Path child) throws IOException {
        byte[] content = Files.readAllBytes(raw);
        String parentName = child.getFileName() + ".parent.vhd";
        VhdBuilder parent = new VhdBuilder(content.length, BLOCK);
        VhdBuilder difference = new VhdBuilder(content.length, BLOCK).childOf(".\\" + parentName, VhdBuilder.ID);
        for (int i = 0; (long) i * BLOCK < content.length; i++) {
            byte[] right = Arrays.copyOfRange(content, i * BLOCK, (i + 1) * BLOCK);
            byte[] stale = right.clone();
            byte[] fresh = new byte[BLOCK];
            BitSet here = new BitSet();
            for (int sector = i % 3; sector < BLOCK / SECTOR; sector += 3) {
                here.set(sector);
                int at = sector * SECTOR;
                System.arraycopy(right, at, fresh, at, SECTOR);
                Arrays.fill(stale, at, at + SECTOR, (byte) 0x5a);
            }
            parent.block(i, stale);
            difference.block(i, here, fresh);
        }
        parent.write(child.resolveSibling(parentName));
        return difference.write(child);
    }

    /** Brings the checksums of both footers and of the dynamic header up to date. */
    public static void seal(byte[] file) {
        ByteBuffer bytes = ByteBuffer.wrap(file);
        VhdBuilder.seal(bytes, 0, 512, 64);
        VhdBuilder.seal(bytes, VhdBuilder.HEADER, 1024, 36);
        VhdBuilder.seal(bytes, file.length - 512, 512, 64);
    }
}

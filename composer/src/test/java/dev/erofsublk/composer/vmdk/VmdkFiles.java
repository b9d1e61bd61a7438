// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** Whole disks in VMDK files, for tests of other packages. */
public final class VmdkFiles {
    private static final int GRAIN_SECTORS = 128;
    private static final int SECTOR = 512;

    private VmdkFiles() {}

    /** A sparse disk with the content of {@code raw}; grains of zeros are left out. */
    public static Path sparse(Path raw, Path out) throws IOException {
        byte[] content = Files.readAllBytes(raw);
        String name = out.getFileName().toString();
        SparseBuilder builder = new SparseBuilder(content.length / SECTOR, GRAIN_SECTORS, name);
        int bytes = GRAIN_SECTORS * SECTOR;
        for (int i = 0; i < builder.grains(); i++) {
            byte[] grain = Arrays.copyOfRange(content, i * bytes, (i + 1) * bytes);
            if (!Arrays.equals(grain, new byte[bytes])) {
                builder.stored.put(i, grain);
            }
        }
        return Files.write(out, builder.build());
    }
}

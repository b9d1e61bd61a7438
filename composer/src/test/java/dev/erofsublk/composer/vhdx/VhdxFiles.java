// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import dev.erofsublk.composer.vhdx.LogBuilder.Entry;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;

/** Whole disks in VHDX files, for tests of other packages. */
public final class VhdxFiles {
    private static final int SECTOR = 4096;
    private static final int LOGGED = 200;

    private VhdxFiles() {}

    /**
     * A disk with the content of {@code raw}, of which the first 200 times 4 KiB and the allocation table are in the log
     * only: the file has other bytes there, as after a crash.
     */
    public static Path dirty(Path raw, Path out) throws IOException {
        return dirty(raw, out, LOGGED);
    }

    /** The same with the first {@code logged} times 4 KiB in the log. */
    public static Path dirty(Path raw, Path out, int logged) throws IOException {
        byte[] content = Files.readAllBytes(raw);
        VhdxBuilder image = new VhdxBuilder(content.length, VhdxBuilder.MIB, 512);
        for (int i = 0; i * VhdxBuilder.MIB < content.length; i++) {
            byte[] block = Arrays.copyOfRange(content, i * VhdxBuilder.MIB, (i + 1) * VhdxBuilder.MIB);
            image.block(i, VhdxBuilder.FULL, block);
        }
        Entry entry = new Entry(1, 0);
        for (int i = 0; i < logged; i++) {
            int at = VhdxBuilder.FIRST_BLOCK + i * SECTOR;
            log(image, entry, at);
        }
        log(image, entry, VhdxBuilder.BAT);
        new LogBuilder(image).add(entry);
        return image.write(out);
    }

    private static void log(VhdxBuilder image, Entry entry, int at) {
        byte[] sector = new byte[SECTOR];
        image.file().get(at, sector);
        entry.data(at, sector);
        Arrays.fill(sector, (byte) 0xa5);
        image.file().put(at, sector);
    }

    /** Brings the checksums of headers and region tables up to date, and that of the log's first entry. */
    public static void seal(byte[] file) {
        ByteBuffer bytes = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN);
        for (int at : new int[] {VhdxBuilder.HEADER_1, VhdxBuilder.HEADER_2}) {
            VhdxBuilder.seal(bytes, at, 4096);
        }
        for (int at : new int[] {VhdxBuilder.REGIONS_1, VhdxBuilder.REGIONS_2}) {
            VhdxBuilder.seal(bytes, at, 65536);
        }
        int length = bytes.getInt(VhdxBuilder.LOG + 8);
        if (length > 0 && length <= VhdxBuilder.MIB) {
            VhdxBuilder.seal(bytes, VhdxBuilder.LOG, length);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import static dev.erofsublk.composer.vhdx.VhdxBuilder.BAT;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.DATA_WRITE_GUID;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.FULL;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.HEADER_1;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.HEADER_2;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.LOG;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.METADATA;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.MIB;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.PARTIAL;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.REGIONS_1;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.REGIONS_2;
import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.disk.Corruption;
import dev.erofsublk.composer.disk.Corruption.Field;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.Objects;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Every number of every structure, damaged: read right or refused by name. */
@Timeout(300)
class VhdxCorruptionTest {
    private static final long ALLOCATION_LIMIT = 16 << 20;
    private static final int LOG_ENTRY = LOG + 5 * 4096;
    private static final int LOG_ENTRY_2 = LOG_ENTRY + 2 * 4096;

    @TempDir
    private Path folder;

    private final long seed = Long.getLong("seed", 20260101);
    private final Random random = new Random(seed);
    private final byte[] base = bytes(3 * MIB);

    @Test
    void everyFieldOfADynamicImage() throws IOException {
        matrix(plain(), fields(2, false), new byte[0]);
    }

    @Test
    void everyFieldOfAChild() throws IOException {
        matrix(child(), fields(3, true), base);
    }

    @Test
    void everyFieldOfAnImageWithALog() throws IOException {
        List<Field> fields = new ArrayList<>(fields(2, false));
        for (int entry : new int[] {LOG_ENTRY, LOG_ENTRY_2}) {
            String name = "log entry at " + entry;
            add(fields, name, entry, 4, 4, 4, 4, 8, 4, 4, 8, 8, 8, 8);
            // signature, (trailing, leading bytes: content), offset, sequence number
            fields.add(new Field(name + " descriptor.signature", entry + 64, 4, false));
            fields.add(new Field(name + " descriptor.FileOffset", entry + 80, 8, false));
            fields.add(new Field(name + " descriptor.SequenceNumber", entry + 88, 8, false));
            fields.add(new Field(name + " data.signature", entry + 4096, 4, false));
            fields.add(new Field(name + " data.SequenceHigh", entry + 4100, 4, false));
            fields.add(new Field(name + " data.SequenceLow", entry + 8188, 4, false));
        }
        matrix(dirty(), fields, new byte[0]);
    }

    @Test
    void anyBytesAtAll() throws IOException {
        System.out.println("VhdxCorruptionTest.anyBytesAtAll: seed " + seed);
        int rounds = Integer.getInteger("fuzz.rounds", 400);
        for (VhdxBuilder image : List.of(plain(), child(), dirty())) {
            fuzz(image, rounds);
        }
    }

    private VhdxBuilder plain() {
        return new VhdxBuilder(3 * MIB, MIB, 512).block(0, FULL, bytes(MIB)).block(2, FULL, bytes(MIB));
    }

    private VhdxBuilder child() throws IOException {
        VhdxBuilder parent = new VhdxBuilder(base.length, MIB, 512);
        for (int i = 0; i < 3; i++) {
            parent.block(i, FULL, Arrays.copyOfRange(base, i * MIB, (i + 1) * MIB));
        }
        parent.write(folder.resolve("parent.vhdx"));
        BitSet here = new BitSet();
        for (int i = 0; i < 6144; i += 2 + random.nextInt(50)) {
            here.set(i);
        }
        return new VhdxBuilder(base.length, MIB, 512)
                .childOf("parent.vhdx", DATA_WRITE_GUID)
                .block(1, PARTIAL, bytes(MIB))
                .block(2, FULL, bytes(MIB))
                .bitmap(0, here);
    }

    private VhdxBuilder dirty() {
        VhdxBuilder image = plain();
        new LogBuilder(image)
                .at(LOG_ENTRY - LOG)
                .add(new LogBuilder.Entry(0x1_0000_0007L, LOG_ENTRY - LOG).data(VhdxBuilder.FIRST_BLOCK, bytes(4096)))
                .add(new LogBuilder.Entry(0x1_0000_0008L, LOG_ENTRY - LOG)
                        .data(VhdxBuilder.FIRST_BLOCK + 4096, bytes(4096)));
        return image;
    }

    private void matrix(VhdxBuilder image, List<Field> fields, byte[] parent) throws IOException {
        System.out.println("VhdxCorruptionTest.matrix: seed " + seed);
        image.seal();
        try (Corruption corruption = corruption(image)) {
            byte[] content = Objects.requireNonNull(corruption.open("undamaged"));
            corruption.undamaged().putInt(LOG_ENTRY_2 + 4, 0);
            byte[] withoutLastEntry = corruption.open("torn");
            for (Field field : fields) {
                for (long value : corruption.values(field, random)) {
                    for (boolean sealed : new boolean[] {false, true}) {
                        String description = "%s = 0x%x%s".formatted(field.name(), value, sealed ? ", sealed" : "");
                        ByteBuffer damaged = corruption.with(field, value);
                        if (sealed && !seal(damaged, field)) {
                            continue; // no checksum to bring up to date: the same as before
                        }
                        ByteBuffer model = field.defining() ? replayed(damaged) : damaged;
                        byte[] found = corruption.open(description);
                        if (found != null) {
                            byte[] expected = field.defining() ? VhdxModel.content(model, parent) : content;
                            if (field.offset() >= LOG_ENTRY_2 && field.offset() < LOG_ENTRY_2 + 8192) {
                                // Damage to the last entry is what an interrupted write to the log looks like.
                                assertThat(found).as(description).isIn(content, withoutLastEntry);
                                continue;
                            }
                            assertThat(Arrays.mismatch(found, expected))
                                    .as("first wrong byte: %s", description)
                                    .isEqualTo(-1);
                        }
                    }
                }
            }
            System.out.println(corruption.read() + " read right, " + corruption.refused() + " refused");
            assertThat(corruption.read()).isGreaterThan(100);
            assertThat(corruption.refused()).isGreaterThan(500);
        }
    }

    /** A copy for the model, with the data sectors of the two log entries in their place if there is a log. */
    private static ByteBuffer replayed(ByteBuffer damaged) {
        ByteBuffer file = ByteBuffer.allocate(damaged.capacity()).order(ByteOrder.LITTLE_ENDIAN);
        file.put(0, damaged, 0, damaged.capacity());
        for (int entry : new int[] {LOG_ENTRY, LOG_ENTRY_2}) {
            if (file.getInt(entry) != 0) {
                int place = (int) file.getLong(entry + 80);
                file.put(place, file, entry + 4096, 4096);
                file.putLong(place, file.getLong(entry + 72)).putInt(place + 4092, file.getInt(entry + 68));
            }
        }
        return file;
    }

    private Corruption corruption(VhdxBuilder image) throws IOException {
        return new Corruption(
                image.file().array(),
                folder.resolve("disk.vhdx"),
                ByteOrder.LITTLE_ENDIAN,
                path -> VhdxImage.open(path, Confinement.OWN_FOLDER),
                ALLOCATION_LIMIT);
    }

    /** Brings the checksum of the structure that holds the field up to date, if there is one and it is not the field. */
    private static boolean seal(ByteBuffer file, Field field) {
        for (int[] structure : new int[][] {
            {HEADER_1, 4096},
            {HEADER_2, 4096},
            {REGIONS_1, 65536},
            {REGIONS_2, 65536},
            {LOG_ENTRY, 8192},
            {LOG_ENTRY_2, 8192}
        }) {
            int at = structure[0];
            if (field.offset() >= at && field.offset() < at + structure[1] && field.offset() != at + 4) {
                VhdxBuilder.seal(file, at, structure[1]);
                return true;
            }
        }
        return false;
    }

    private static List<Field> fields(int blocks, boolean child) {
        List<Field> fields = new ArrayList<>();
        fields.add(new Field("signature", 0, 8, false));
        for (int header : new int[] {HEADER_1, HEADER_2}) {
            add(fields, "header at " + header, header, 4, 4, 8, 8, 8, 8, 8, 8, 8, 2, 2, 4, 8, 8);
        }
        for (int table : new int[] {REGIONS_1, REGIONS_2}) {
            add(fields, "region table at " + table, table, 4, 4, 4, 4, 8, 8, 8, 4, 4, 8, 8, 8, 4, 4);
        }
        add(fields, "metadata table", METADATA, 8, 2, 2, 8, 8, 4);
        for (int i = 0; i < (child ? 6 : 5); i++) {
            add(fields, "metadata entry " + i, METADATA + 32 + 32 * i, 8, 8, 4, 4, 4, 4);
        }
        int items = METADATA + VhdxBuilder.FILE_PARAMETERS;
        fields.add(new Field("BlockSize", items, 4, true));
        fields.add(new Field("file parameters.flags", items + 4, 4, false));
        fields.add(new Field("VirtualDiskSize", METADATA + VhdxBuilder.VIRTUAL_SIZE, 8, true));
        fields.add(new Field("disk id", METADATA + VhdxBuilder.DISK_ID, 8, false));
        fields.add(new Field("logical sector size", METADATA + VhdxBuilder.SECTOR_SIZE, 4, false));
        fields.add(new Field("physical sector size", METADATA + VhdxBuilder.PHYSICAL_SECTOR_SIZE, 4, false));
        for (int i = 0; i <= blocks + 1; i++) {
            fields.add(new Field("BAT entry " + i, BAT + 8 * i, 8, true));
        }
        fields.add(new Field("BAT entry of the sector bitmap", BAT + 8 * 4096, 8, child));
        fields.add(new Field("last BAT entry", BAT + MIB - 8, 8, false));
        if (child) {
            int locator = METADATA + VhdxBuilder.PARENT_LOCATOR;
            add(fields, "parent locator", locator, 8, 8, 2, 2, 4, 4, 2, 2, 4, 4, 2, 2);
        }
        return fields;
    }

    private static void add(List<Field> fields, String structure, int offset, int... widths) {
        int at = offset;
        for (int width : widths) {
            fields.add(new Field(structure + " @" + (at - offset), at, width, false));
            at += width;
        }
    }

    private void fuzz(VhdxBuilder image, int rounds) throws IOException {
        image.seal();
        int[] places = {HEADER_1, HEADER_2, REGIONS_1, REGIONS_2, METADATA, METADATA + 65536, BAT, LOG_ENTRY};
        try (Corruption corruption = corruption(image)) {
            for (int round = 0; round < rounds; round++) {
                ByteBuffer damaged = corruption.undamaged();
                for (int i = random.nextInt(6); i >= 0; i--) {
                    int at = places[random.nextInt(places.length)] + random.nextInt(random.nextBoolean() ? 128 : 4096);
                    damaged.put(at, (byte) (random.nextBoolean() ? random.nextInt() : 1 << random.nextInt(8)));
                }
                if (random.nextInt(4) > 0) {
                    for (int[] table : new int[][] {{HEADER_1, 4096}, {HEADER_2, 4096}, {REGIONS_1, 65536}}) {
                        VhdxBuilder.seal(damaged, table[0], table[1]);
                    }
                    damaged.put(REGIONS_2, damaged, REGIONS_1, 65536);
                    VhdxBuilder.seal(damaged, LOG_ENTRY, 8192);
                }
                corruption.open("round " + round + " of seed " + seed);
            }
            System.out.println(corruption.read() + " read, " + corruption.refused() + " refused");
            assertThat(corruption.refused()).isPositive();
        }
    }

    private byte[] bytes(int length) {
        byte[] bytes = new byte[length];
        random.nextBytes(bytes);
        return bytes;
    }
}

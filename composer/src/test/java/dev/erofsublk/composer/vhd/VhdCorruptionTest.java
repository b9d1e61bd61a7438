// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhd;

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
import java.util.UUID;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Every number of every structure, damaged: read right or refused by name. */
@Timeout(300)
class VhdCorruptionTest {
    private static final long ALLOCATION_LIMIT = 8 << 20;
    private static final int BLOCK = 32 << 10;
    private static final int SIZE = 4 * BLOCK;

    @TempDir
    private Path folder;

    private final long seed = Long.getLong("seed", 20260102);
    private final Random random = new Random(seed);

    @Test
    void everyFieldOfADynamicDisk() throws IOException {
        ByteBuffer file = dynamic().build();
        matrix(file, fields(file), file.capacity() - 512, new byte[SIZE]);
    }

    @Test
    void everyFieldOfAChild() throws IOException {
        VhdBuilder parent = dynamic();
        parent.write(folder.resolve("parent.vhd"));
        ByteBuffer file = child().build();
        matrix(file, fields(file), file.capacity() - 512, content(parent.file(), new byte[SIZE]));
    }

    @Test
    void everyFieldOfAFixedDisk() throws IOException {
        ByteBuffer file = fixed();
        List<Field> fields = new ArrayList<>();
        footer(fields, "footer", SIZE);
        matrix(file, fields, SIZE, new byte[SIZE]);
    }

    @Test
    void anyBytesAtAll() throws IOException {
        System.out.println("VhdCorruptionTest.anyBytesAtAll: seed " + seed);
        dynamic().write(folder.resolve("parent.vhd"));
        int rounds = Integer.getInteger("fuzz.rounds", 1000);
        for (ByteBuffer file : List.of(dynamic().build(), child().build(), fixed())) {
            fuzz(file, rounds);
        }
    }

    /** @param below what is read where the file has nothing: the parent, or zeros */
    private void matrix(ByteBuffer file, List<Field> fields, int footer, byte[] below) throws IOException {
        System.out.println("VhdCorruptionTest.matrix: seed " + seed);
        try (Corruption corruption = corruption(file)) {
            byte[] content = Objects.requireNonNull(corruption.open("undamaged"));
            for (Field field : fields) {
                for (long value : corruption.values(field, random)) {
                    for (boolean sealed : new boolean[] {false, true}) {
                        String description = "%s = 0x%x%s".formatted(field.name(), value, sealed ? ", sealed" : "");
                        ByteBuffer damaged = corruption.with(field, value);
                        if (sealed && !seal(damaged, field, footer)) {
                            continue;
                        }
                        ByteBuffer model = field.defining() ? copy(damaged) : damaged;
                        byte[] found = corruption.open(description);
                        if (found != null) {
                            byte[] expected = field.defining() ? content(model, below) : content;
                            assertThat(Arrays.mismatch(found, expected))
                                    .as("first wrong byte: %s", description)
                                    .isEqualTo(-1);
                        }
                    }
                }
            }
            System.out.println(corruption.read() + " read right, " + corruption.refused() + " refused");
            assertThat(corruption.read()).isGreaterThan(20);
            assertThat(corruption.refused()).isGreaterThan(50);
        }
    }

    /** What the specification makes of a file, whose table may be damaged, over {@code below}. */
    private static byte[] content(ByteBuffer file, byte[] below) {
        byte[] expected = below.clone();
        for (int i = 0; i < 4; i++) {
            int entry = file.getInt(VhdBuilder.BAT + 4 * i);
            for (int sector = 0; sector < BLOCK / 512; sector++) {
                int at = i * BLOCK + sector * 512;
                if (entry != -1 && (file.get(entry * 512 + sector / 8) & 0x80 >> sector % 8) != 0) {
                    file.get(entry * 512 + 512 + sector * 512, expected, at, 512);
                }
            }
        }
        return expected;
    }

    private static boolean seal(ByteBuffer file, Field field, int footer) {
        for (int[] structure : new int[][] {{0, 512, 64}, {VhdBuilder.HEADER, 1024, 36}, {footer, 512, 64}}) {
            int at = structure[0];
            boolean inside = field.offset() >= at && field.offset() < at + structure[1];
            if (inside && field.offset() != at + structure[2]) {
                VhdBuilder.seal(file, at, structure[1], structure[2]);
                return true;
            }
        }
        return false;
    }

    private static List<Field> fields(ByteBuffer file) {
        List<Field> fields = new ArrayList<>();
        footer(fields, "footer copy", 0);
        footer(fields, "footer", file.capacity() - 512);
        add(fields, "dynamic header", VhdBuilder.HEADER, 8, 8, 8, 4, 4, 4, 4, 8, 8, 4, 4, 8, 8);
        for (int i = 0; i < 8; i++) {
            add(fields, "parent locator " + i, VhdBuilder.HEADER + 576 + 24 * i, 4, 4, 4, 4, 8);
        }
        add(fields, "dynamic header's end", VhdBuilder.HEADER + 768, 8, 8);
        for (int i = 0; i < 4; i++) {
            fields.add(new Field("BAT entry " + i, VhdBuilder.BAT + 4 * i, 4, true));
        }
        return fields;
    }

    private static void footer(List<Field> fields, String name, int at) {
        add(fields, name, at, 8, 4, 4, 8, 4, 4, 4, 4, 8, 8, 2, 1, 1, 4, 4, 8, 8, 1, 8);
    }

    private static void add(List<Field> fields, String structure, int offset, int... widths) {
        int at = offset;
        for (int width : widths) {
            fields.add(new Field(structure + " @" + (at - offset), at, width, false));
            at += width;
        }
    }

    private void fuzz(ByteBuffer file, int rounds) throws IOException {
        int footer = file.capacity() - 512;
        int[] places = {0, VhdBuilder.HEADER, VhdBuilder.HEADER + 576, VhdBuilder.BAT, VhdBuilder.LOCATOR, footer};
        try (Corruption corruption = corruption(file)) {
            for (int round = 0; round < rounds; round++) {
                ByteBuffer damaged = corruption.undamaged();
                for (int i = random.nextInt(5); i >= 0; i--) {
                    int at = places[random.nextInt(places.length)] + random.nextInt(96);
                    damaged.put(at, (byte) (random.nextBoolean() ? random.nextInt() : 1 << random.nextInt(8)));
                }
                if (random.nextInt(4) > 0) {
                    VhdBuilder.seal(damaged, footer, 512, 64);
                    damaged.put(0, damaged, footer, 512);
                    VhdBuilder.seal(damaged, VhdBuilder.HEADER, 1024, 36);
                }
                corruption.open("round " + round + " of seed " + seed);
            }
            System.out.println(corruption.read() + " read, " + corruption.refused() + " refused");
            assertThat(corruption.refused()).isPositive();
        }
    }

    private Corruption corruption(ByteBuffer file) throws IOException {
        return new Corruption(
                VhdBuilder.bytes(file),
                folder.resolve("disk.vhd"),
                ByteOrder.BIG_ENDIAN,
                path -> VhdImage.open(path, Confinement.OWN_FOLDER),
                ALLOCATION_LIMIT);
    }

    private VhdBuilder dynamic() {
        return new VhdBuilder(SIZE, BLOCK)
                .block(0, bytes(BLOCK))
                .block(3, bytes(BLOCK))
                .block(2, bytes(BLOCK));
    }

    private VhdBuilder child() {
        BitSet here = new BitSet();
        here.set(3, 20);
        return new VhdBuilder(SIZE, BLOCK)
                .uuid(new UUID(1, 1))
                .childOf("parent.vhd", VhdBuilder.ID)
                .block(1, here, bytes(BLOCK))
                .block(2, bytes(BLOCK));
    }

    private ByteBuffer fixed() {
        ByteBuffer file = ByteBuffer.allocate(SIZE + 512).put(0, bytes(SIZE));
        VhdBuilder.footer(file, SIZE, SIZE, 2, -1);
        // A geometry that counts, since the creator is not one of those whose current size does.
        file.put(SIZE + 28, (byte) 'q')
                .putShort(SIZE + 56, (short) 16)
                .put(SIZE + 58, (byte) 4)
                .put(SIZE + 59, (byte) 4);
        VhdBuilder.seal(file, SIZE, 512, 64);
        return file;
    }

    private static ByteBuffer copy(ByteBuffer file) {
        return ByteBuffer.allocate(file.capacity()).put(0, file, 0, file.capacity());
    }

    private byte[] bytes(int length) {
        byte[] bytes = new byte[length];
        random.nextBytes(bytes);
        return bytes;
    }
}

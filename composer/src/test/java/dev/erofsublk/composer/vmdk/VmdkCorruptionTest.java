// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.Decoded;
import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.TreeSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Damage: it is refused by name or changes nothing, costs little, and raises nothing else. */
class VmdkCorruptionTest {
    /** Heap that opening any damaged fixture may take: its tables, and classes and strings of the JVM. */
    private static final long MOST_HEAP = 32L << 20;

    @TempDir
    Path folder;

    private List<String> undamaged = List.of();

    static List<Fixture> fixtures() {
        return Fixture.all();
    }

    @ParameterizedTest
    @MethodSource("fixtures")
    void anUndamagedFixtureIsReadRight(Fixture fixture) throws IOException {
        Path disk = fixture.write(folder, fixture.damagedFile());
        Content.assertSame(fixture.name(), Content.bytes(disk), fixture.expected());
    }

    @ParameterizedTest
    @MethodSource("fixtures")
    void everyDamagedFieldReadsTheSameOrIsRefused(Fixture fixture) throws IOException {
        long seed = System.nanoTime();
        System.out.println("VmdkCorruptionTest matrix seed " + seed);
        Random random = new Random(seed);
        List<String> wrong = new ArrayList<>();
        int refused = 0;
        undamaged = extents(fixture);
        for (Fixture.Field field : fixture.fields()) {
            long original = get(fixture.damagedFile(), field);
            for (long value : values(field, original, random)) {
                byte[] file = fixture.damagedFile();
                put(file, field, value);
                String outcome = outcome(fixture, file);
                if (outcome.startsWith("refused")) {
                    refused++;
                } else if (!outcome.equals("same")) {
                    wrong.add("%s: %s = %d, was %d".formatted(outcome, field, value, original));
                }
            }
        }
        assertThat(wrong).as("%s, seed %d", fixture, seed).isEmpty();
        assertThat(refused)
                .as("values that were refused")
                .isGreaterThan(fixture.fields().size());
    }

    private List<String> extents(Fixture fixture) throws IOException {
        Path disk = fixture.write(folder, fixture.damagedFile());
        try (VmdkImage image = Content.open(disk, Confinement.OWN_FOLDER)) {
            return extents(image.flat());
        }
    }

    /** All extents as text; none if bytes still have to be decoded, so that damage to them may show. */
    private static List<String> extents(FlatImage flat) {
        List<String> extents = new ArrayList<>();
        for (int i = 0; i < flat.extentCount(); i++) {
            Extent e = flat.extent(i);
            if (e.source() instanceof Decoded) {
                return List.of();
            }
            extents.add(e.start() + " " + e.source().name() + " " + e.sourceOffset());
        }
        return extents;
    }

    private static Set<Long> values(Fixture.Field field, long original, Random random) {
        Set<Long> values = new LinkedHashSet<>(List.of(
                0L, 1L, -1L, original + 1, original - 1, original * 2, 1L << (field.bytes() * 8 - 1), 1L << 30));
        for (int i = 0; i < 8; i++) {
            values.add(random.nextLong() >>> random.nextInt(64));
        }
        return values;
    }

    private static long get(byte[] file, Fixture.Field field) {
        long value = 0;
        for (int i = field.bytes(); i-- > 0; ) {
            value = (value << 8) | Byte.toUnsignedLong(file[field.offset() + i]);
        }
        return value;
    }

    private static void put(byte[] file, Fixture.Field field, long value) {
        for (int i = 0; i < field.bytes(); i++) {
            file[field.offset() + i] = (byte) (value >>> (8 * i));
        }
    }

    /** {@code same}, {@code refused …} or what went wrong. */
    private String outcome(Fixture fixture, byte[] file) throws IOException {
        Path disk = fixture.write(folder, file);
        long before = allocated();
        try (VmdkImage image = Content.open(disk, Confinement.OWN_FOLDER)) {
            image.describe(new Description());
            long heap = allocated() - before;
            if (heap > MOST_HEAP) {
                return "allocated " + heap + " bytes";
            }
            if (image.flat().size() != fixture.expected().length) {
                return "size " + image.flat().size();
            }
            if (!undamaged.isEmpty() && extents(image.flat()).equals(undamaged)) {
                return "same"; // the same bytes of the same files
            }
            int at = Arrays.mismatch(Content.bytes(image.flat()), fixture.expected());
            return at < 0 ? "same" : "wrong byte " + at;
        } catch (ImageException e) {
            long heap = allocated() - before;
            return heap > MOST_HEAP ? "allocated " + heap + " bytes" : "refused: " + e.getMessage();
        } catch (RuntimeException | OutOfMemoryError | StackOverflowError e) {
            return e.toString();
        }
    }

    private static long allocated() {
        return ((com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean()).getCurrentThreadAllocatedBytes();
    }

    /** Runs for 8 seconds, or {@code -Dfuzz.seconds=N}. */
    @Test
    void randomDamageRaisesNothingButRefusals() throws IOException {
        long seed = System.nanoTime();
        System.out.println("VmdkCorruptionTest fuzz seed " + seed);
        Random random = new Random(seed);
        List<Fixture> fixtures = Fixture.all();
        long end = System.nanoTime() + Long.getLong("fuzz.seconds", 8) * 1_000_000_000L;
        int runs = 0;
        TreeSet<String> reasons = new TreeSet<>();
        while (System.nanoTime() < end) {
            Fixture fixture = fixtures.get(runs++ % fixtures.size());
            boolean text = random.nextInt(4) == 0 && !fixture.open().equals(fixture.damaged());
            Fixture target = text ? fixture.damagedIn(fixture.open()) : fixture;
            byte[] file = mutate(target.damagedFile(), random);
            String outcome = openAndRead(target, file);
            assertThat(outcome).as("%s, run %d of seed %d", fixture, runs, seed).doesNotStartWith("BUG");
            reasons.add(outcome.replaceAll("[0-9]+", "N"));
        }
        System.out.println(runs + " mutants, " + reasons.size() + " kinds of outcome");
        assertThat(reasons.size()).isGreaterThan(20);
    }

    /** Damages the metadata, most of the time, in a few places. */
    private static byte[] mutate(byte[] file, Random random) {
        for (int n = 1 + random.nextInt(4); n > 0 && file.length > 8; n--) {
            int reach = random.nextInt(3) == 0 ? file.length : Math.min(file.length, 64 << random.nextInt(10));
            int at = random.nextInt(reach);
            switch (random.nextInt(7)) {
                case 0 -> file[at] ^= (byte) (1 << random.nextInt(8));
                case 1 -> file[at] = (byte) random.nextInt(256);
                case 2 -> put(file, new Fixture.Field("", Math.min(at, file.length - 4) & ~3, 4), random.nextInt(4096));
                case 3 -> put(file, new Fixture.Field("", Math.min(at, file.length - 8) & ~3, 8), random.nextLong());
                case 4 ->
                    put(file, new Fixture.Field("", Math.min(at, file.length - 8) & ~3, 8), -1L >>> random.nextInt(64));
                case 5 -> file = Arrays.copyOf(file, random.nextInt(2 * file.length));
                default -> {
                    int to = random.nextInt(reach);
                    System.arraycopy(file, at, file, to, Math.min(random.nextInt(600), file.length - Math.max(at, to)));
                }
            }
        }
        return file;
    }

    private String openAndRead(Fixture fixture, byte[] file) throws IOException {
        Path disk = fixture.write(folder, file);
        long before = allocated();
        long start = System.nanoTime();
        String outcome;
        try (VmdkImage image = Content.open(disk, Confinement.OWN_FOLDER)) {
            image.describe(new Description());
            if (image.flat().size() < 64 << 20) {
                Content.eachStored(image.flat(), bytes -> {});
            }
            outcome = "read";
        } catch (ImageException e) {
            outcome = e.field();
        } catch (RuntimeException | OutOfMemoryError | StackOverflowError e) {
            outcome = "BUG " + e + " " + Arrays.toString(e.getStackTrace());
        }
        long heap = allocated() - before;
        long millis = (System.nanoTime() - start) / 1_000_000;
        return heap > 2 * MOST_HEAP || millis > 5000 ? "BUG " + heap + " bytes, " + millis + " ms" : outcome;
    }
}

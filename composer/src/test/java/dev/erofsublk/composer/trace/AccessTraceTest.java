// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.trace;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.FirstTouches;
import dev.erofsublk.composer.ImageException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Random;
import java.util.zip.CRC32C;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AccessTraceTest {
    private static final int UNITS = 300;
    private static final ImageIdentity IMAGE =
            new ImageIdentity("erofs", "0f3e5a0e-5f0c-4f0e-9b57-0d8f5a1f2c3d", UNITS * 65536L - 4096);
    private static final long[] RUNS = {FirstTouches.run(0, 4), FirstTouches.run(120, 1), FirstTouches.run(17, 2)};

    @TempDir
    private Path dir;

    private static AccessTrace parse(byte[] bytes) throws ImageException {
        return AccessTrace.parse("trace", bytes, IMAGE);
    }

    private static String text() {
        return new String(new AccessTrace(IMAGE, RUNS).toBytes(), StandardCharsets.ISO_8859_1);
    }

    /** With the checksum that it needs. */
    private static byte[] sealed(String body) {
        CRC32C crc = new CRC32C();
        crc.update(body.getBytes(StandardCharsets.ISO_8859_1));
        return (body + "crc32c %08x\n".formatted(crc.getValue())).getBytes(StandardCharsets.ISO_8859_1);
    }

    private static String body() {
        return text().substring(0, text().indexOf("crc32c"));
    }

    private static void assertRefused(ThrowingCallable parsing, String message) {
        assertThatThrownBy(parsing)
                .isInstanceOf(ImageException.class)
                .hasMessageContaining(message)
                .hasMessageStartingWith("trace: ");
    }

    @Test
    void whatIsWrittenIsReadAgain() throws Exception {
        long seed = new Random().nextLong();
        System.out.println("seed " + seed);
        Random random = new Random(seed);
        for (int i = 0; i < 50; i++) {
            FirstTouches touches = new FirstTouches();
            for (int j = random.nextInt(200); j > 0; j--) {
                touches.touch(random.nextLong(IMAGE.size()), 1);
            }
            Path file = dir.resolve("trace");
            new AccessTrace(IMAGE, touches.runs()).write(file);
            AccessTrace read = AccessTrace.read(file, IMAGE);
            assertThat(read.runs()).isEqualTo(touches.runs());
            assertThat(read.units()).isEqualTo(touches.count());
        }
        try (var files = Files.list(dir)) {
            assertThat(files.map(Path::getFileName).map(Path::toString)).containsExactly("trace");
        }
    }

    @Test
    void itIsTextAsDocumented() {
        assertThat(text().lines().toList())
                .startsWith(
                        "erofs-ublk trace 1",
                        "format erofs",
                        "uuid 0f3e5a0e-5f0c-4f0e-9b57-0d8f5a1f2c3d",
                        "size 19656704",
                        "unit 65536",
                        "runs 3",
                        "0 4",
                        "120",
                        "17 2")
                .hasSize(10)
                .last()
                .asString()
                .matches("crc32c [0-9a-f]{8}");
    }

    @Test
    void aTraceOfAnotherImageIsRefusedByWhatDiffers() {
        byte[] bytes = text().getBytes(StandardCharsets.ISO_8859_1);
        ImageIdentity bigger = new ImageIdentity(IMAGE.format(), IMAGE.uuid(), IMAGE.size() + 1);
        assertRefused(
                () -> AccessTrace.parse("trace", bytes, bigger),
                "size is \"19656704\", expected 19656705, that of the image");
        ImageIdentity unnamed = new ImageIdentity("raw", "", IMAGE.size());
        assertRefused(() -> AccessTrace.parse("trace", bytes, unnamed), "format is \"erofs\", expected raw");
        ImageIdentity other = new ImageIdentity("erofs", "", IMAGE.size());
        assertRefused(
                () -> AccessTrace.parse("trace", bytes, other),
                "uuid is \"0f3e5a0e-5f0c-4f0e-9b57-0d8f5a1f2c3d\", expected -, that of the image");
    }

    @Test
    void everyChangedByteAndEveryShorterFileIsRefused() {
        byte[] sound = text().getBytes(StandardCharsets.ISO_8859_1);
        for (int i = 0; i < sound.length; i++) {
            byte[] changed = sound.clone();
            changed[i] ^= 1;
            assertThatThrownBy(() -> parse(changed)).as("byte %d", i).isInstanceOf(ImageException.class);
            byte[] shorter = java.util.Arrays.copyOf(sound, i);
            assertThatThrownBy(() -> parse(shorter)).as("%d bytes", i).isInstanceOf(ImageException.class);
        }
    }

    @Test
    void runsOutsideTheImageAndNumbersThatAreNoneAreRefused() {
        for (String run : List.of(
                "300",
                "299 2",
                "0 0",
                "0 65537",
                "-1",
                "00",
                "0  1",
                "0 1 ",
                "",
                "1e3",
                "9999999999999999999",
                "\u00e9")) {
            assertRefused(() -> parse(sealed(body().replace("120\n", run + "\n"))), "line 8 is \"" + run + "\"");
        }
        assertRefused(() -> parse(sealed(body().replace("runs 3", "runs 2"))), "line 9 is \"17 2\", expected no more");
        assertRefused(() -> parse(sealed(body().replace("runs 3", "runs 4"))), "line 10 is cut off");
        assertRefused(() -> parse(sealed(body().replace("runs 3", "runs 262144"))), "runs is \"runs 262144\"");
        assertRefused(() -> parse(sealed("erofs-ublk trace 2\n")), "first line is \"erofs-ublk trace 2\"");
    }

    @Test
    void whateverIsInTheFileItIsReadOrRefused() {
        long seed = new Random().nextLong();
        System.out.println("seed " + seed);
        Random random = new Random(seed);
        String alphabet = "0123456789 \n\u0000\u00ffabcrunsize-";
        for (int i = 0; i < 20_000; i++) {
            StringBuilder text = new StringBuilder(body());
            for (int j = random.nextInt(4); j >= 0; j--) {
                int from = random.nextInt(text.length());
                switch (random.nextInt(3)) {
                    case 0 -> text.setCharAt(from, alphabet.charAt(random.nextInt(alphabet.length())));
                    case 1 -> text.insert(from, alphabet.charAt(random.nextInt(alphabet.length())));
                    default -> text.delete(from, Math.min(text.length(), from + 1 + random.nextInt(9)));
                }
            }
            byte[] bytes = sealed(text.toString());
            try {
                for (long run : parse(bytes).runs()) {
                    assertThat(FirstTouches.first(run) + FirstTouches.count(run))
                            .isBetween(1L, (long) UNITS);
                }
            } catch (ImageException refused) {
                assertThat(refused.getMessage().lines()).hasSize(1);
            }
        }
    }

    @Test
    void whatIsNoFileOrTooLongIsRefused() throws Exception {
        assertThatThrownBy(() -> AccessTrace.read(dir, IMAGE))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("a directory");
        Path large = dir.resolve("large");
        try (var file = new java.io.RandomAccessFile(large.toFile(), "rw")) {
            file.setLength(1L << 40);
        }
        assertThatThrownBy(() -> AccessTrace.read(large, IMAGE))
                .isInstanceOf(ImageException.class)
                .hasMessageContaining("1099511627776 bytes, expected at most 8388608");
        Path empty = Files.createFile(dir.resolve("empty"));
        assertThatThrownBy(() -> AccessTrace.read(empty, IMAGE)).isInstanceOf(ImageException.class);
    }

    /** The most that can be recorded can also be read. */
    @Test
    void theLongestRecordingFits() {
        ImageIdentity huge = new ImageIdentity("raw", "", 1L << 46);
        long[] runs = new long[FirstTouches.MAX_RUNS];
        java.util.Arrays.fill(runs, FirstTouches.run((1L << 30) - FirstTouches.MAX_COUNT, FirstTouches.MAX_COUNT));
        byte[] bytes = new AccessTrace(huge, runs).toBytes();
        assertThat(bytes.length).isLessThan(AccessTrace.MAX_BYTES);
        assertThatCode(() -> AccessTrace.parse("trace", bytes, huge)).doesNotThrowAnyException();
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.disk;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assumptions;

/** QEMU's qemu-img, if the machine has it: writes images for our readers, and reads what we write. */
public final class QemuImg {
    private QemuImg() {}

    /** Runs it; where there is none, the calling test is reported as not run. Returns what it printed. */
    public static String run(Object... arguments) throws IOException {
        List<String> command = new ArrayList<>(List.of("qemu-img"));
        for (Object argument : arguments) {
            command.add(argument.toString());
        }
        Process process;
        try {
            process = new ProcessBuilder(command).redirectErrorStream(true).start();
        } catch (IOException e) {
            return Assumptions.abort("not run: qemu-img is not on the PATH (apt-get install qemu-utils)");
        }
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        try {
            assertThat(process.waitFor(2, TimeUnit.MINUTES))
                    .as("qemu-img ended")
                    .isTrue();
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
        assertThat(process.exitValue()).as("%s: %s", command, output).isZero();
        return output;
    }

    /** Fails unless it reads the same bytes, and as many, from a raw file and from one of another format. */
    public static void assertSame(Path raw, String format, Path other) throws IOException {
        run("compare", "-q", "-f", "raw", "-F", format, raw, other); // that of different lengths may succeed
        assertThat(run("info", "--output=json", "-f", format, other))
                .contains("\"virtual-size\": " + Files.size(raw) + ",");
    }

    /** A sparse raw file with random pieces, among them the first and the last sector. */
    public static Path raw(Path file, long size, long seed) throws IOException {
        Random random = new Random(seed);
        Files.deleteIfExists(file);
        try (RandomAccessFile out = new RandomAccessFile(file.toFile(), "rw")) {
            out.setLength(size);
            for (int i = 0; i < 24; i++) {
                byte[] piece = new byte[512 * (1 + random.nextInt(64))];
                random.nextBytes(piece);
                long last = (size - piece.length) / 512;
                long at = i == 0 ? 0 : i == 1 ? last : random.nextLong(last + 1);
                out.seek(at * 512);
                out.write(piece);
            }
        }
        return file;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** Runs programs of others: without them on the PATH, a test that needs one is reported as not run. */
final class Tool {
    private static final int TIMEOUT_SECONDS = 120;

    private Tool() {}

    /** What a program said, and how it ended. */
    record Result(int status, String output) {}

    static void assume(String... programs) {
        for (String program : programs) {
            assumeTrue(isOnPath(program), "not run: there is no " + program + " on the PATH");
        }
    }

    private static boolean isOnPath(String program) {
        return Arrays.stream(System.getenv().getOrDefault("PATH", "").split(":"))
                .anyMatch(directory -> Files.isExecutable(Path.of(directory, program)));
    }

    /** Runs a program that has to succeed; returns what it said on both streams. */
    static String run(Object... command) throws IOException, InterruptedException {
        Result result = attempt(command);
        assertThat(result.status())
                .as(Arrays.toString(command) + "\n" + result.output())
                .isZero();
        return result.output();
    }

    static Result attempt(Object... command) throws IOException, InterruptedException {
        List<String> words = new ArrayList<>();
        for (Object word : command) {
            words.add(word.toString());
        }
        Path output = Files.createTempFile("tool", ".out");
        try {
            Process process = new ProcessBuilder(words)
                    .redirectErrorStream(true)
                    .redirectOutput(output.toFile())
                    .start();
            process.getOutputStream().close();
            boolean ended = process.waitFor(TIMEOUT_SECONDS, TimeUnit.SECONDS);
            if (!ended) {
                process.destroyForcibly().waitFor();
            }
            String text = Files.readString(output, StandardCharsets.ISO_8859_1);
            assertThat(ended).as(words + " did not end\n" + text).isTrue();
            return new Result(process.exitValue(), text);
        } finally {
            Files.delete(output);
        }
    }
}

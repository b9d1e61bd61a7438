// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** A program of another project that reads or writes the same formats; the test does not run where it is missing. */
record Tool(String program) {
    Tool {
        boolean found = false;
        for (String directory : System.getenv().getOrDefault("PATH", "").split(":", -1)) {
            found |= Files.isExecutable(Path.of(directory, program));
        }
        assumeTrue(found, "not run: no " + program + " in PATH (Debian packages qemu-utils and 7zip)");
    }

    /** Runs it; returns what it printed. */
    String run(Path folder, Object... arguments) throws IOException {
        Result result = tryRun(folder, arguments);
        if (result.code != 0) {
            throw new AssertionError(program + " " + List.of(arguments) + ": " + result.code + " " + result.output);
        }
        return result.output;
    }

    record Result(int code, String output) {}

    Result tryRun(Path folder, Object... arguments) throws IOException {
        List<String> command = new ArrayList<>(List.of(program));
        for (Object argument : arguments) {
            command.add(argument.toString());
        }
        ProcessBuilder builder =
                new ProcessBuilder(command).directory(folder.toFile()).redirectErrorStream(true);
        builder.environment().put("LC_ALL", "C");
        Process process = builder.start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        try {
            return new Result(process.waitFor(), output);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException(e);
        }
    }
}

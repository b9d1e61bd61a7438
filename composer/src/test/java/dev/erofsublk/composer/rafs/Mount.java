// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** A loop mount by the machine's own kernel: the reader that counts. */
final class Mount implements AutoCloseable {
    private final Path path;

    private Mount(Path path) {
        this.path = path;
    }

    static boolean isPossible() throws IOException {
        return why().isEmpty();
    }

    /** What is missing for mounting; empty if nothing is. */
    static String why() throws IOException {
        if (dev.erofsublk.uring.Linux.effectiveUserId() != 0) {
            return "not root";
        }
        if (!Files.exists(Path.of("/dev/loop-control"))) {
            return "no /dev/loop-control";
        }
        return Files.readString(Path.of("/proc/filesystems")).contains("\terofs\n")
                ? ""
                : "no EROFS in /proc/filesystems";
    }

    static Mount of(Path image, Path at) throws IOException {
        Files.createDirectories(at);
        run("mount", "-t", "erofs", "-o", "loop,ro", image.toString(), at.toString());
        return new Mount(at);
    }

    Path path() {
        return path;
    }

    private static void run(String... command) throws IOException {
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        if (process.onExit().join().exitValue() != 0) {
            throw new IOException(String.join(" ", command) + ": " + output);
        }
    }

    @Override
    public void close() throws IOException {
        run("umount", path.toString());
    }
}

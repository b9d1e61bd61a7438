// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import java.util.stream.Stream;

/** What is mounted in this process' mount namespace. */
final class MountTable {
    private MountTable() {}

    /**
     * Where block device {@code device} is mounted, if it is.
     *
     * <p>proc(5), {@code /proc/[pid]/mountinfo}: field 5 is the mount point; the source is the second field behind the
     * separator {@code -}.
     */
    static Optional<String> mountPoint(String device) throws IOException {
        try (Stream<String> lines = Files.lines(Path.of("/proc/self/mountinfo"), StandardCharsets.ISO_8859_1)) {
            return lines.map(line -> line.split(" "))
                    .filter(fields -> source(fields).equals(device))
                    .map(fields -> fields[4])
                    .findFirst();
        }
    }

    private static String source(String[] fields) {
        for (int i = 6; i < fields.length - 2; i++) {
            if (fields[i].equals("-")) {
                return fields[i + 2];
            }
        }
        return "";
    }
}

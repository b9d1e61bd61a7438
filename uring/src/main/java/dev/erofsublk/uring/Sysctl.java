// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;

/**
 * Values below {@code /proc/sys}.
 *
 * <p>Not for {@link java.nio.file.Files#readString}: that asks a file of size 0 for one byte first, and a sysctl gives
 * all it has at the first read and nothing after (fs/proc/proc_sysctl.c), so of 65530 it would see the 6.
 */
public final class Sysctl {
    private static final int MAX_BYTES = 4096;

    private Sysctl() {}

    /**
     * Reads a number.
     *
     * @param name for example {@code vm/max_map_count}
     */
    public static long number(String name) throws LinuxException {
        int fd = Linux.open("/proc/sys/" + name, Linux.O_RDONLY);
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment text = arena.allocate(MAX_BYTES);
            long bytes = Linux.readOnce(fd, text, 0);
            return Long.parseLong(
                    new String(text.asSlice(0, bytes).toArray(JAVA_BYTE), StandardCharsets.US_ASCII).strip());
        } finally {
            Linux.close(fd);
        }
    }
}

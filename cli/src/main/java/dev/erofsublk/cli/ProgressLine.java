// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.function.LongConsumer;

/** How far a long command has come, on the terminal's last line; nothing where stderr is no terminal. */
final class ProgressLine implements LongConsumer, AutoCloseable {
    private static final long INTERVAL_NANOS = 200_000_000;

    private final String what;
    private final long total;
    private final boolean terminal = isTerminal();
    private final long start = System.nanoTime();
    private long shown = start;
    private int width;

    /** @param total of what {@link #accept} counts, in bytes */
    ProgressLine(String what, long total) {
        this.what = what;
        this.total = total;
    }

    private static boolean isTerminal() {
        try {
            String target = Files.readSymbolicLink(Path.of("/proc/self/fd/2")).toString();
            return target.startsWith("/dev/pts/") || target.startsWith("/dev/tty") || target.equals("/dev/console");
        } catch (IOException e) {
            return false;
        }
    }

    @Override
    public synchronized void accept(long done) {
        long now = System.nanoTime();
        if (!terminal || now - shown < INTERVAL_NANOS) {
            return;
        }
        shown = now;
        double seconds = (now - start) / 1e9;
        show("%s %3.0f%%  %s of %s  %s/s"
                .formatted(what, total == 0 ? 100 : 100.0 * done / total, size(done), size(total), size((long)
                        (done / seconds))));
    }

    /** Shows {@code text} instead, for work that has no known end. */
    synchronized void show(String text) {
        if (terminal) {
            System.err.print("\r" + text + " ".repeat(Math.max(0, width - text.length())));
            System.err.flush();
            width = text.length();
        }
    }

    /** Clears the line. */
    @Override
    public synchronized void close() {
        if (width > 0) {
            show("");
            System.err.print("\r");
            System.err.flush();
        }
    }

    /** A number of bytes as people say it: {@code 4.6 MiB}. */
    static String size(long bytes) {
        String[] units = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
        double value = bytes;
        int unit = 0;
        while (value >= 1024 && unit < units.length - 1) {
            value /= 1024;
            unit++;
        }
        String format = unit == 0 || value == Math.rint(value) ? "%.0f %s" : "%.1f %s";
        return String.format(Locale.ROOT, format, value, units[unit]);
    }
}

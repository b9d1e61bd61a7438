// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import org.jspecify.annotations.Nullable;

/**
 * What the daemon says, one line each, on stderr or in a file. Under systemd a line begins with its priority and has no time, which
 * the journal knows better (sd-daemon(3)). Elsewhere times are UTC: they mean the same on every host, and the rules of time zones,
 * which take the JVM 60 ms to read, are not needed.
 *
 * <p>Never called by a thread that serves requests.
 */
public final class Log {
    /** From the quietest; the priorities are those of syslog(3). */
    public enum Level {
        ERROR(3),
        WARN(4),
        INFO(6),
        DEBUG(7);

        private final int priority;

        Level(int priority) {
            this.priority = priority;
        }
    }

    private static final boolean JOURNAL = System.getenv("JOURNAL_STREAM") != null;

    private static volatile Level threshold = Level.INFO;
    private static volatile PrintStream out = System.err;

    private Log() {}

    /** Keeps quiet about everything beyond {@code level}. */
    public static void threshold(Level level) {
        threshold = level;
    }

    /** From now on says it in {@code file}; what was in there before stays beside it for one start. */
    public static void to(Path file) throws IOException {
        if (Files.exists(file)) {
            Files.move(file, file.resolveSibling(file.getFileName() + ".1"), StandardCopyOption.REPLACE_EXISTING);
        }
        Files.createFile(file, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------")));
        out = new PrintStream(Files.newOutputStream(file, StandardOpenOption.APPEND), true, StandardCharsets.UTF_8);
    }

    static void error(String format, @Nullable Object... arguments) {
        log(Level.ERROR, format, arguments);
    }

    static void warn(String format, @Nullable Object... arguments) {
        log(Level.WARN, format, arguments);
    }

    static void info(String format, @Nullable Object... arguments) {
        log(Level.INFO, format, arguments);
    }

    static void debug(String format, @Nullable Object... arguments) {
        log(Level.DEBUG, format, arguments);
    }

    @SuppressWarnings("AnnotateFormatMethod") // the annotation is in a library that nothing else needs
    private static void log(Level level, String format, @Nullable Object... arguments) {
        if (level.compareTo(threshold) > 0) {
            return;
        }
        // A name with a line break in it must not look like a line of ours.
        String text = format.formatted(arguments).replace('\n', ' ').replace('\r', ' ');
        String head =
                JOURNAL ? "<" + level.priority + ">" : Instant.now().truncatedTo(ChronoUnit.MILLIS) + " " + level + " ";
        out.println(head + text);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/**
 * Where it is written down what a device's readers read first, and from where it is read what they will.
 *
 * @param record the file to write; null if nothing is recorded
 * @param prefetch the file to read; null if nothing is brought in ahead
 */
public record TraceFiles(@Nullable Path record, @Nullable Path prefetch) {
    /** Neither. */
    public static final TraceFiles NONE = new TraceFiles(null, null);

    public TraceFiles {
        record = absolute(record);
        prefetch = absolute(prefetch);
    }

    private static @Nullable Path absolute(@Nullable Path path) {
        return path == null ? null : path.toAbsolutePath().normalize();
    }

    /** Whether nothing is recorded or brought in. */
    boolean isNone() {
        return record == null && prefetch == null;
    }

    void addTo(JsonObject json) {
        json.put("record_trace", record == null ? null : record.toString())
                .put("prefetch", prefetch == null ? null : prefetch.toString());
    }

    static TraceFiles fromJson(JsonObject json) throws DaemonException {
        return new TraceFiles(path(json, "record_trace"), path(json, "prefetch"));
    }

    private static @Nullable Path path(JsonObject json, String field) throws DaemonException {
        String text = json.optionalString(field).orElse(null);
        if (text == null) {
            return null;
        }
        try {
            Path path = Path.of(text);
            if (path.isAbsolute() && path.getFileName() != null) {
                return path;
            }
        } catch (InvalidPathException e) {
            // the same as a relative one
        }
        throw new DaemonException("field \"%s\" is %s, expected the absolute path of a file".formatted(field, text));
    }
}

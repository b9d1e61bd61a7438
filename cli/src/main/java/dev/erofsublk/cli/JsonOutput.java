// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import com.google.gson.stream.JsonWriter;
import java.io.IOException;
import java.io.OutputStreamWriter;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;

/** JSON on stdout, indented, ended by a line break. */
final class JsonOutput {
    /** Writes one value. */
    @FunctionalInterface
    interface Body {
        void write(JsonWriter out) throws IOException;
    }

    private JsonOutput() {}

    static void print(Body body) throws IOException {
        JsonWriter out = new JsonWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8));
        out.setIndent("  ");
        body.write(out);
        out.flush();
        System.out.println();
    }

    /** Writes named values as an object. */
    static void writeRow(JsonWriter out, Map<String, Object> row) throws IOException {
        out.beginObject();
        writeFields(out, row);
        out.endObject();
    }

    /** Writes named values into the object that is open. */
    static void writeFields(JsonWriter out, Map<String, Object> row) throws IOException {
        for (Map.Entry<String, Object> field : row.entrySet()) {
            out.name(field.getKey());
            writeValue(out, field.getValue());
        }
    }

    private static void writeValue(JsonWriter out, Object value) throws IOException {
        switch (value) {
            case Integer n -> out.value(n);
            case Long n -> out.value(n);
            case Boolean b -> out.value(b);
            case List<?> list -> {
                out.beginArray();
                for (Object each : list) {
                    writeValue(out, each);
                }
                out.endArray();
            }
            default -> out.value(value.toString());
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.util.DefaultPrettyPrinter;
import java.io.IOException;
import java.util.List;
import java.util.Map;

/** JSON on stdout, indented, ended by a line break. */
final class JsonOutput {
    /** Writes one value. */
    @FunctionalInterface
    interface Body {
        void write(JsonGenerator out) throws IOException;
    }

    private JsonOutput() {}

    static void print(Body body) throws IOException {
        try (JsonGenerator out = new JsonFactory()
                .createGenerator(System.out)
                .disable(JsonGenerator.Feature.AUTO_CLOSE_TARGET)
                .setPrettyPrinter(new DefaultPrettyPrinter())) {
            body.write(out);
        }
        System.out.println();
    }

    /** Writes named values as an object. */
    static void writeRow(JsonGenerator out, Map<String, Object> row) throws IOException {
        out.writeStartObject();
        writeFields(out, row);
        out.writeEndObject();
    }

    /** Writes named values into the object that is open. */
    static void writeFields(JsonGenerator out, Map<String, Object> row) throws IOException {
        for (Map.Entry<String, Object> field : row.entrySet()) {
            out.writeFieldName(field.getKey());
            writeValue(out, field.getValue());
        }
    }

    private static void writeValue(JsonGenerator out, Object value) throws IOException {
        switch (value) {
            case Integer n -> out.writeNumber(n);
            case Long n -> out.writeNumber(n);
            case Boolean b -> out.writeBoolean(b);
            case List<?> list -> {
                out.writeStartArray();
                for (Object each : list) {
                    writeValue(out, each);
                }
                out.writeEndArray();
            }
            default -> out.writeString(value.toString());
        }
    }
}

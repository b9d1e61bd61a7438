// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.util.DefaultPrettyPrinter;
import java.io.IOException;

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
}

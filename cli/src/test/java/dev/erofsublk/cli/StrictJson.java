// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import java.io.IOException;
import java.io.StringReader;

/** Output as another program reads it: Gson by itself would accept what RFC 8259 does not. */
final class StrictJson {
    private StrictJson() {}

    /** The one value that {@code text} is. */
    static JsonElement parse(String text) throws IOException {
        JsonReader reader = new JsonReader(new StringReader(text));
        reader.setStrictness(Strictness.STRICT);
        JsonElement value = JsonParser.parseReader(reader);
        assertThat(reader.peek()).isEqualTo(JsonToken.END_DOCUMENT);
        return value;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import java.io.IOException;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/**
 * One JSON object whose fields are asked for by name and type, as the control protocol and the state files use them.
 *
 * <p>Every way in which a text or a field can be wrong is a {@link DaemonException} that names the field, what it is
 * and what was expected. Depth, sizes and the number of values are bounded, so a text of n characters costs a bounded
 * multiple of n. Fields that nobody asks for are ignored: a newer peer may know more.
 */
public final class JsonObject {
    /** Characters of a text: room for the longest table of blobs that an image has, with paths of 60 characters. */
    public static final int MAX_CHARACTERS = 4 << 20;

    private static final JsonFactory FACTORY = new JsonFactoryBuilder()
            .streamReadConstraints(StreamReadConstraints.builder()
                    .maxNestingDepth(8)
                    .maxStringLength(8192)
                    .maxNameLength(256)
                    .maxNumberLength(20)
                    .maxDocumentLength(MAX_CHARACTERS)
                    .build())
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .build();

    private final Map<String, Object> fields;

    private JsonObject(Map<String, Object> fields) {
        this.fields = fields;
    }

    public JsonObject() {
        this(new LinkedHashMap<>());
    }

    /** Reads exactly one object. */
    public static JsonObject parse(String text) throws DaemonException {
        try (JsonParser parser = FACTORY.createParser(text)) {
            if (parser.nextToken() != JsonToken.START_OBJECT) {
                throw new DaemonException("not JSON: expected an object");
            }
            JsonObject object = object(parser);
            if (parser.nextToken() != null) {
                throw new DaemonException("not JSON: expected nothing behind the object");
            }
            return object;
        } catch (DaemonException e) {
            throw e;
        } catch (JsonProcessingException e) {
            throw new DaemonException("not JSON: " + e.getOriginalMessage());
        } catch (IOException e) {
            throw new DaemonException("not JSON: " + e.getMessage());
        }
    }

    private static JsonObject object(JsonParser parser) throws IOException {
        JsonObject object = new JsonObject();
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String name = parser.currentName();
            parser.nextToken();
            Object value = value(parser);
            if (value != null) {
                object.fields.put(name, value); // null is the same as absent
            }
        }
        return object;
    }

    private static @Nullable Object value(JsonParser parser) throws IOException {
        return switch (parser.currentToken()) {
            case START_OBJECT -> object(parser);
            case START_ARRAY -> array(parser);
            case VALUE_STRING -> parser.getText();
            case VALUE_NUMBER_INT -> parser.getLongValue();
            case VALUE_NUMBER_FLOAT -> parser.getDoubleValue();
            case VALUE_TRUE -> true;
            case VALUE_FALSE -> false;
            case VALUE_NULL -> null;
            default -> throw new DaemonException("not JSON: " + parser.currentToken());
        };
    }

    private static List<Object> array(JsonParser parser) throws IOException {
        List<Object> list = new ArrayList<>();
        while (parser.nextToken() != JsonToken.END_ARRAY) {
            Object value = value(parser);
            if (value == null) {
                throw new DaemonException("not usable: null in an array");
            }
            list.add(value);
        }
        return list;
    }

    /** Sets a field to a string, a number, a boolean, a {@link JsonObject} or a list of them; null leaves it out. */
    public JsonObject put(String name, @Nullable Object value) {
        if (value != null) {
            fields.put(name, value);
        }
        return this;
    }

    public boolean has(String name) {
        return fields.containsKey(name);
    }

    public String string(String name) throws DaemonException {
        return optionalString(name).orElseThrow(() -> missing(name, "a string"));
    }

    public Optional<String> optionalString(String name) throws DaemonException {
        return optional(name, String.class, "a string");
    }

    public long number(String name) throws DaemonException {
        return optional(name, Long.class, "a whole number").orElseThrow(() -> missing(name, "a whole number"));
    }

    /** A whole number from {@code least} to {@code most}. */
    public int integer(String name, int least, int most) throws DaemonException {
        long value = number(name);
        if (value < least || value > most) {
            throw wrong(name, value, least + " to " + most);
        }
        return (int) value;
    }

    public int integer(String name, int least, int most, int ifAbsent) throws DaemonException {
        return has(name) ? integer(name, least, most) : ifAbsent;
    }

    public boolean bool(String name, boolean ifAbsent) throws DaemonException {
        return optional(name, Boolean.class, "true or false").orElse(ifAbsent);
    }

    public JsonObject object(String name) throws DaemonException {
        return optional(name, JsonObject.class, "an object").orElseThrow(() -> missing(name, "an object"));
    }

    /** A list of strings; empty if absent. */
    public List<String> strings(String name) throws DaemonException {
        return list(name, String.class, "a list of strings");
    }

    /** A list of whole numbers; empty if absent. */
    public List<Long> numbers(String name) throws DaemonException {
        return list(name, Long.class, "a list of whole numbers");
    }

    /** A list of objects; empty if absent. */
    public List<JsonObject> objects(String name) throws DaemonException {
        return list(name, JsonObject.class, "a list of objects");
    }

    private <T> List<T> list(String name, Class<T> type, String expected) throws DaemonException {
        List<T> list = new ArrayList<>();
        for (Object element : optional(name, List.class, expected).orElse(List.of())) {
            if (!type.isInstance(element)) {
                throw wrong(name, element, expected);
            }
            list.add(type.cast(element));
        }
        return list;
    }

    private <T> Optional<T> optional(String name, Class<T> type, String expected) throws DaemonException {
        Object value = fields.get(name);
        if (value == null) {
            return Optional.empty();
        }
        if (!type.isInstance(value)) {
            throw wrong(name, value, expected);
        }
        return Optional.of(type.cast(value));
    }

    private static DaemonException missing(String name, String expected) {
        return new DaemonException("field \"%s\" is missing, expected %s".formatted(name, expected));
    }

    private static DaemonException wrong(String name, Object value, String expected) {
        String text = String.valueOf(value);
        return new DaemonException("field \"%s\" is %s, expected %s"
                .formatted(name, text.length() > 80 ? text.substring(0, 80) + "..." : text, expected));
    }

    /** Writes it into {@code out} as a value. */
    public void write(JsonGenerator out) throws IOException {
        out.writeStartObject();
        for (Map.Entry<String, Object> field : fields.entrySet()) {
            out.writeFieldName(field.getKey());
            write(out, field.getValue());
        }
        out.writeEndObject();
    }

    private static void write(JsonGenerator out, Object value) throws IOException {
        switch (value) {
            case JsonObject object -> object.write(out);
            case List<?> list -> {
                out.writeStartArray();
                for (Object element : list) {
                    write(out, element);
                }
                out.writeEndArray();
            }
            case Integer number -> out.writeNumber(number);
            case Long number -> out.writeNumber(number);
            case Double number -> out.writeNumber(number);
            case Boolean truth -> out.writeBoolean(truth);
            default -> out.writeString(value.toString());
        }
    }

    /** The object on one line. */
    @Override
    public String toString() {
        StringWriter text = new StringWriter();
        try (JsonGenerator out = FACTORY.createGenerator(text)) {
            write(out);
        } catch (IOException e) {
            throw new UncheckedIOException(e); // a StringWriter does not fail
        }
        return text.toString();
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.JsonToken;
import com.google.gson.stream.JsonWriter;
import com.google.gson.stream.MalformedJsonException;
import java.io.EOFException;
import java.io.IOException;
import java.io.StringReader;
import java.io.StringWriter;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
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

    private static final int MAX_DEPTH = 8;
    private static final int MAX_NAME_CHARACTERS = 256;
    private static final int MAX_STRING_CHARACTERS = 8192;
    private static final int MAX_NUMBER_CHARACTERS = 20;

    private final Map<String, Object> fields;

    private JsonObject(Map<String, Object> fields) {
        this.fields = fields;
    }

    public JsonObject() {
        this(new LinkedHashMap<>());
    }

    /** Reads exactly one object. */
    public static JsonObject parse(String text) throws DaemonException {
        if (text.length() > MAX_CHARACTERS) {
            throw new DaemonException(
                    "not JSON: %d characters, expected at most %d".formatted(text.length(), MAX_CHARACTERS));
        }
        JsonReader reader = new JsonReader(new StringReader(text));
        reader.setStrictness(Strictness.STRICT);
        reader.setNestingLimit(MAX_DEPTH);
        try {
            if (reader.peek() != JsonToken.BEGIN_OBJECT) {
                throw new DaemonException("not JSON: expected an object");
            }
            JsonObject object = object(reader);
            if (!isAtEnd(reader)) {
                throw new DaemonException("not JSON: expected nothing behind the object");
            }
            return object;
        } catch (DaemonException e) {
            throw e;
        } catch (EOFException e) {
            throw new DaemonException("not JSON: it ends too early");
        } catch (IOException e) { // whose text is for programmers
            throw new DaemonException("not JSON of at most %d levels, at %s".formatted(MAX_DEPTH, reader.getPath()));
        }
    }

    private static boolean isAtEnd(JsonReader reader) throws IOException {
        try {
            return reader.peek() == JsonToken.END_DOCUMENT;
        } catch (MalformedJsonException more) {
            return false;
        }
    }

    private static JsonObject object(JsonReader reader) throws IOException {
        JsonObject object = new JsonObject();
        Set<String> names = new HashSet<>();
        reader.beginObject();
        while (reader.hasNext()) {
            String name = bounded("a name", reader.nextName(), MAX_NAME_CHARACTERS);
            if (!names.add(name)) {
                throw new DaemonException("not usable: there are two fields \"%s\"".formatted(name));
            }
            Object value = value(reader);
            if (value != null) {
                object.fields.put(name, value); // null is the same as absent
            }
        }
        reader.endObject();
        return object;
    }

    private static @Nullable Object value(JsonReader reader) throws IOException {
        return switch (reader.peek()) {
            case BEGIN_OBJECT -> object(reader);
            case BEGIN_ARRAY -> array(reader);
            case STRING -> bounded("a string", reader.nextString(), MAX_STRING_CHARACTERS);
            case NUMBER -> longOrDouble(reader.nextString());
            case BOOLEAN -> reader.nextBoolean();
            case NULL -> {
                reader.nextNull();
                yield null;
            }
            default -> throw new DaemonException("not JSON: " + reader.peek());
        };
    }

    private static List<Object> array(JsonReader reader) throws IOException {
        List<Object> list = new ArrayList<>();
        reader.beginArray();
        while (reader.hasNext()) {
            Object value = value(reader);
            if (value == null) {
                throw new DaemonException("not usable: null in an array");
            }
            list.add(value);
        }
        reader.endArray();
        return list;
    }

    /** Whole numbers as such, which is what every field that is asked for has. */
    private static Object longOrDouble(String digits) throws DaemonException {
        bounded("a number", digits, MAX_NUMBER_CHARACTERS);
        boolean whole = digits.indexOf('.') < 0 && digits.indexOf('e') < 0 && digits.indexOf('E') < 0;
        try {
            return whole ? (Object) Long.parseLong(digits) : (Object) Double.parseDouble(digits);
        } catch (NumberFormatException e) {
            throw new DaemonException("not usable: a number of more than 64 bits, " + digits);
        }
    }

    private static String bounded(String what, String text, int most) throws DaemonException {
        if (text.length() > most) {
            throw new DaemonException(
                    "not usable: %s of %d characters, expected at most %d".formatted(what, text.length(), most));
        }
        return text;
    }

    /** Sets a field to a string, a number, a boolean, a {@link JsonObject} or a list of them; null leaves it out. */
    public JsonObject put(String name, @Nullable Object value) {
        if (value != null) {
            fields.put(
                    name,
                    value instanceof Integer whole ? (Object) whole.longValue() : value); // as if it had been read
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
    public void write(JsonWriter out) throws IOException {
        out.beginObject();
        for (Map.Entry<String, Object> field : fields.entrySet()) {
            out.name(field.getKey());
            write(out, field.getValue());
        }
        out.endObject();
    }

    private static void write(JsonWriter out, Object value) throws IOException {
        if (value instanceof JsonObject object) {
            object.write(out);
        } else if (value instanceof List<?> list) {
            out.beginArray();
            for (Object element : list) {
                write(out, element);
            }
            out.endArray();
        } else if (value instanceof Number number) {
            out.value(number);
        } else if (value instanceof Boolean truth) {
            out.value(truth);
        } else {
            out.value(value.toString());
        }
    }

    /** The object on one line. */
    @Override
    public String toString() {
        StringWriter text = new StringWriter();
        try {
            write(new JsonWriter(text));
        } catch (IOException e) {
            throw new UncheckedIOException(e); // a StringWriter does not fail
        }
        return text.toString();
    }
}

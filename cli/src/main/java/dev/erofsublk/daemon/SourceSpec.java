// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.probe.Format;
import dev.erofsublk.composer.source.ImageSource;
import dev.erofsublk.composer.verity.Salt;
import java.io.IOException;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * An {@link ImageSource} with absolute paths, which another process can open, and its form in JSON.
 *
 * @param source what names the image
 */
public record SourceSpec(ImageSource source) {
    public SourceSpec {
        source = new ImageSource(
                absolute(source.blobs()),
                absolute(source.meta()),
                absolute(source.blob()),
                absolute(source.image()),
                source.format(),
                absolute(source.allowed()),
                absolute(source.cache()),
                source.verity());
    }

    private static @Nullable Path absolute(@Nullable Path path) {
        return path == null ? null : path.toAbsolutePath().normalize();
    }

    private static List<Path> absolute(List<Path> paths) {
        return paths.stream().map(path -> path.toAbsolutePath().normalize()).toList();
    }

    /** A directory in which blobs are found by their tags, if the image is named so. */
    public @Nullable Path blobs() {
        return source.blobs();
    }

    /** The metadata image, if it is named. */
    public @Nullable Path meta() {
        return source.meta();
    }

    /** The blobs in the order of the device table. */
    public List<Path> blob() {
        return source.blob();
    }

    /** An image in one file, if that is it. */
    public @Nullable Path image() {
        return source.image();
    }

    /** Opens and checks what is named. */
    public Image open() throws IOException {
        return source.open();
    }

    public JsonObject toJson() {
        JsonObject json = new JsonObject()
                .put("blobs", text(blobs()))
                .put("meta", text(meta()))
                .put("image", text(image()))
                .put("format", source.format() == null ? null : source.format().toString())
                .put("cache", text(source.cache()))
                .put("verity", source.verity() == null ? null : source.verity().digits());
        put(json, "blob", blob());
        put(json, "allowed", source.allowed());
        return json;
    }

    private static void put(JsonObject json, String name, List<Path> paths) {
        if (!paths.isEmpty()) {
            json.put(name, paths.stream().map(Path::toString).toList());
        }
    }

    private static @Nullable String text(@Nullable Path path) {
        return path == null ? null : path.toString();
    }

    public static SourceSpec fromJson(JsonObject json) throws DaemonException {
        String name = json.optionalString("format").orElse(null);
        Format format = name == null ? null : Format.named(name).orElse(null);
        if (name != null && format == null) {
            throw new DaemonException("field \"format\" is %s, expected erofs, raw, vmdk, vhdx or vhd".formatted(name));
        }
        try {
            return new SourceSpec(new ImageSource(
                    path(json, "blobs"),
                    path(json, "meta"),
                    paths(json, "blob"),
                    path(json, "image"),
                    format,
                    paths(json, "allowed"),
                    path(json, "cache"),
                    salt(json)));
        } catch (IllegalArgumentException e) {
            throw new DaemonException(
                    "field \"source\" has the wrong parts, expected image; or blobs and perhaps meta; or meta and blob");
        }
    }

    private static @Nullable Salt salt(JsonObject json) throws DaemonException {
        String text = json.optionalString("verity").orElse(null);
        try {
            return text == null ? null : Salt.parse(text);
        } catch (IllegalArgumentException e) {
            throw new DaemonException(
                    "field \"verity\" is %s, expected a salt: an even number of up to 512 hexadecimal digits"
                            .formatted(text));
        }
    }

    private static List<Path> paths(JsonObject json, String field) throws DaemonException {
        List<Path> paths = new ArrayList<>();
        for (String name : json.strings(field)) {
            paths.add(path(field, name));
        }
        return paths;
    }

    private static @Nullable Path path(JsonObject json, String name) throws DaemonException {
        String text = json.optionalString(name).orElse(null);
        return text == null ? null : path(name, text);
    }

    private static Path path(String name, String text) throws DaemonException {
        try {
            Path path = Path.of(text);
            if (path.isAbsolute()) {
                return path;
            }
        } catch (InvalidPathException e) {
            // the same as a relative one
        }
        throw new DaemonException("field \"%s\" is %s, expected an absolute path".formatted(name, text));
    }

    /** What a person calls it: the path that says most. */
    @Override
    public String toString() {
        return Objects.toString(image(), Objects.toString(meta(), String.valueOf(blobs())));
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.erofs.ErofsImages;
import java.io.IOException;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * What names an image: a directory, a metadata file with its blobs, or one file. Exactly what a user said, with
 * absolute paths, so that another process composes the same image from it.
 *
 * @param blobs a directory in which blobs are found by their tags
 * @param meta the metadata image, with {@code blobs} or {@code blob}
 * @param blob the blobs in the order of the device table
 * @param image an image in one file, which goes alone
 */
public record SourceSpec(
        @Nullable Path blobs,
        @Nullable Path meta,
        List<Path> blob,
        @Nullable Path image) {
    public SourceSpec {
        blobs = absolute(blobs);
        meta = absolute(meta);
        blob = blob.stream().map(path -> path.toAbsolutePath().normalize()).toList();
        image = absolute(image);
    }

    private static @Nullable Path absolute(@Nullable Path path) {
        return path == null ? null : path.toAbsolutePath().normalize();
    }

    /** Opens and checks what is named. */
    public Image open() throws IOException {
        if (image != null) {
            return ErofsImages.fromFiles(image, List.of());
        }
        if (blobs != null) {
            return ErofsImages.fromDirectory(blobs, meta);
        }
        return ErofsImages.fromFiles(Objects.requireNonNull(meta, "meta"), blob);
    }

    public JsonObject toJson() {
        JsonObject json = new JsonObject()
                .put("blobs", text(blobs))
                .put("meta", text(meta))
                .put("image", text(image));
        return blob.isEmpty()
                ? json
                : json.put("blob", blob.stream().map(Path::toString).toList());
    }

    private static @Nullable String text(@Nullable Path path) {
        return path == null ? null : path.toString();
    }

    public static SourceSpec fromJson(JsonObject json) throws DaemonException {
        Path blobs = path(json, "blobs");
        Path meta = path(json, "meta");
        Path image = path(json, "image");
        List<Path> blob = new ArrayList<>();
        for (String name : json.strings("blob")) {
            blob.add(path("blob", name));
        }
        boolean one = image != null && blobs == null && meta == null && blob.isEmpty();
        boolean directory = image == null && blobs != null && blob.isEmpty();
        boolean files = image == null && blobs == null && meta != null;
        if (!one && !directory && !files) {
            throw new DaemonException(
                    "field \"source\" has the wrong parts, expected image; or blobs and perhaps meta; or meta and blob");
        }
        return new SourceSpec(blobs, meta, blob, image);
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
        return Objects.toString(image, Objects.toString(meta, String.valueOf(blobs)));
    }
}

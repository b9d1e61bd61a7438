// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;

/**
 * The files of one directory, as candidates for a metadata image and its blobs.
 *
 * <p>Only regular files directly in it; a symbolic link counts if it leads to another file of the directory's own
 * tree, so that a directory made by somebody else cannot hand out files from elsewhere.
 */
final class BlobDirectory {
    private final Path directory;
    private final List<Candidate> candidates;

    /**
     * A file and what it is.
     *
     * @param superblock empty if it is no EROFS image
     */
    private record Candidate(Path path, Optional<Superblock> superblock) {
        boolean isFlattened() {
            return superblock.isPresent() && superblock.get().extraDevices() > 0;
        }
    }

    private BlobDirectory(Path directory, List<Candidate> candidates) {
        this.directory = directory;
        this.candidates = candidates;
    }

    static BlobDirectory scan(Path directory) throws IOException {
        if (!Files.isDirectory(directory)) {
            throw new ImageException(
                    directory.toString(),
                    "--blobs",
                    Files.exists(directory) ? "not a directory" : "missing",
                    "a directory with a metadata image and its blobs");
        }
        Path root = directory.toRealPath();
        List<Candidate> candidates = new ArrayList<>();
        try (DirectoryStream<Path> entries = Files.newDirectoryStream(directory)) {
            for (Path entry : entries) {
                if (isCandidate(root, entry)) {
                    try (Blob blob = Blob.open(entry)) {
                        candidates.add(new Candidate(entry, magicOnly(blob)));
                    }
                }
            }
        }
        candidates.sort((a, b) -> a.path.compareTo(b.path));
        return new BlobDirectory(directory, candidates);
    }

    private static boolean isCandidate(Path root, Path entry) throws IOException {
        if (Files.isRegularFile(entry, LinkOption.NOFOLLOW_LINKS)) {
            return true;
        }
        return Files.isSymbolicLink(entry)
                && Files.isRegularFile(entry)
                && entry.toRealPath().startsWith(root);
    }

    /** A damaged image among many is no reason to refuse the others: it is refused when it is picked. */
    private static Optional<Superblock> magicOnly(Blob blob) throws IOException {
        try {
            return Superblock.find(blob);
        } catch (ImageException damaged) {
            return Optional.empty();
        }
    }

    /** The one image with a device table; where there is none, the one image at all. */
    Path meta() throws IOException {
        List<Path> flattened = candidates.stream()
                .filter(Candidate::isFlattened)
                .map(Candidate::path)
                .toList();
        List<Path> images = candidates.stream()
                .filter(c -> c.superblock.isPresent())
                .map(Candidate::path)
                .toList();
        List<Path> metas = flattened.isEmpty() ? images : flattened;
        if (metas.size() == 1) {
            return metas.getFirst();
        }
        if (metas.isEmpty()) {
            throw damagedOrNone();
        }
        throw new ImageException(
                directory.toString(), "metadata image", names(metas), "one of them: name it with --meta FILE");
    }

    /** Says why there is no image: if a file has the magic but is damaged, its own reason. */
    private ImageException damagedOrNone() throws IOException {
        for (Candidate candidate : candidates) {
            try (Blob blob = Blob.open(candidate.path)) {
                Superblock.find(blob);
            } catch (ImageException damaged) {
                return damaged;
            }
        }
        return new ImageException(
                directory.toString(),
                "metadata image",
                candidates.isEmpty() ? "missing in a directory without files" : "missing",
                "a file with an EROFS superblock");
    }

    /**
     * The file that a slot means: the one named like its tag, or the layer whose own UUID is the tag.
     *
     * @param meta is never its own blob
     */
    Path find(DeviceSlot slot, Path meta) throws ImageException {
        if (!slot.isTagged()) {
            throw new ImageException(
                    meta.toString(),
                    "device slot " + slot.number() + " tag",
                    slot.tag().isEmpty() ? "empty" : slot.tag(),
                    "a tag that names its blob; give the order with --meta FILE --blob FILE --blob FILE ...");
        }
        List<Path> named = candidates.stream()
                .map(Candidate::path)
                .filter(path -> path.getFileName().toString().equals(slot.tag()))
                .toList();
        List<Path> layers = candidates.stream()
                .filter(c -> !c.path.equals(meta) && hasUuid(c, slot.tag()))
                .map(Candidate::path)
                .toList();
        List<Path> found = named.isEmpty() ? layers : named;
        if (found.isEmpty()) {
            throw new ImageException(
                    directory.toString(),
                    "blob of device slot " + slot.number(),
                    "missing",
                    "a file named %s or an image with that UUID".formatted(slot.tag()));
        }
        if (found.size() > 1) {
            throw new ImageException(
                    directory.toString(),
                    "blob of device slot " + slot.number(),
                    names(found),
                    "one file with the UUID %s; give the order with --meta FILE --blob FILE ...".formatted(slot.tag()));
        }
        return found.getFirst();
    }

    private static boolean hasUuid(Candidate candidate, String tag) {
        return candidate.superblock.isPresent()
                && candidate.superblock.get().uuid().equals(tag.toLowerCase(Locale.ROOT));
    }

    private static String names(List<Path> paths) {
        List<String> names =
                paths.stream().map(path -> path.getFileName().toString()).toList();
        return names.size() <= 4
                ? String.join(" and ", names)
                : String.join(", ", names.subList(0, 4)) + " and " + (names.size() - 4) + " more";
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Source;
import dev.erofsublk.uring.FileStatus;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * By what a file is known again: if all of these are the same, so is its content, short of somebody's bad intentions.
 *
 * @param path as it was opened
 * @param device the device that holds it, major in the upper 32 bits
 * @param modifiedNanos last change of the content, nanoseconds since the epoch
 */
record FileIdentity(String path, long device, long inode, long size, long modifiedNanos) {
    static FileIdentity of(Blob blob) {
        FileStatus status = blob.status();
        return new FileIdentity(
                blob.path().toString(), status.device(), status.inode(), status.size(), status.modifiedNanos());
    }

    /** All the files behind a device that have names, in the order in which it uses them. */
    static List<FileIdentity> of(FlatImage image) {
        List<FileIdentity> files = new ArrayList<>();
        for (Blob blob : blobs(image)) {
            files.add(of(blob));
        }
        return files;
    }

    /** Those of a device that are files of a user; a hash tree made for it is none. */
    static List<Blob> blobs(FlatImage image) {
        List<Blob> blobs = new ArrayList<>();
        for (Source source : image.sources()) {
            if (source instanceof Blob blob && !blob.isOwn()) {
                blobs.add(blob);
            }
        }
        return blobs;
    }

    /** How {@code now} differs from this, in words; nothing if it does not. */
    Optional<String> difference(FileIdentity now) {
        if (!path.equals(now.path)) {
            return Optional.of("%s takes the place of %s".formatted(now.path, path));
        }
        if (device != now.device || inode != now.inode) {
            return Optional.of("%s is another file (inode %d, expected %d)".formatted(path, now.inode, inode));
        }
        if (size != now.size) {
            return Optional.of("%s has %d bytes, expected %d".formatted(path, now.size, size));
        }
        if (modifiedNanos != now.modifiedNanos) {
            return Optional.of(
                    "%s was modified (mtime %d ns, expected %d ns)".formatted(path, now.modifiedNanos, modifiedNanos));
        }
        return Optional.empty();
    }

    JsonObject toJson() {
        return new JsonObject()
                .put("path", path)
                .put("device", device)
                .put("inode", inode)
                .put("size", size)
                .put("modified_ns", modifiedNanos);
    }

    static FileIdentity fromJson(JsonObject json) throws DaemonException {
        return new FileIdentity(
                json.string("path"),
                json.number("device"),
                json.number("inode"),
                json.number("size"),
                json.number("modified_ns"));
    }
}

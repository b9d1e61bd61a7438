// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.UserDefinedFileAttributeView;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Stream;

/** Every file of a tree with all that a user can see of it, as one line each, so that two trees can be compared. */
final class TreeSnapshot {
    private TreeSnapshot() {}

    static SortedMap<String, String> of(Path root) throws Exception {
        SortedMap<String, String> lines = new TreeMap<>();
        try (Stream<Path> files = Files.walk(root)) {
            for (Path file : files.toList()) {
                lines.put("/" + root.relativize(file), describe(file));
            }
        }
        return lines;
    }

    private static String describe(Path file) throws Exception {
        Map<String, Object> attributes = Files.readAttributes(
                file,
                "unix:mode,uid,gid,size,isSymbolicLink,isRegularFile,lastModifiedTime",
                LinkOption.NOFOLLOW_LINKS);
        StringBuilder line = new StringBuilder()
                .append("mode %o".formatted((Integer) attributes.get("mode")))
                .append(" owner ")
                .append(attributes.get("uid"))
                .append(':')
                .append(attributes.get("gid"))
                .append(" mtime ")
                .append(attributes.get("lastModifiedTime"));
        if (attributes.get("isSymbolicLink").equals(true)) {
            return line.append(" -> ").append(Files.readSymbolicLink(file)).toString();
        }
        if (attributes.get("isRegularFile").equals(true)) {
            line.append(" size ")
                    .append(attributes.get("size"))
                    .append(" sha256 ")
                    .append(digest(file));
        }
        // a FIFO has none that a user can set, and opening it to ask would wait for a writer
        boolean askable = Files.isRegularFile(file) || Files.isDirectory(file);
        return line.append(askable ? userAttributes(file) : "").toString();
    }

    private static String digest(Path file) throws Exception {
        MessageDigest sha256 = MessageDigest.getInstance("SHA-256");
        try (InputStream in = new DigestInputStream(Files.newInputStream(file), sha256)) {
            in.transferTo(java.io.OutputStream.nullOutputStream());
        }
        return HexFormat.of().formatHex(sha256.digest());
    }

    private static String userAttributes(Path file) throws IOException {
        UserDefinedFileAttributeView view = Files.getFileAttributeView(file, UserDefinedFileAttributeView.class);
        StringBuilder text = new StringBuilder();
        for (String name : new TreeSet<>(view.list())) {
            ByteBuffer value = ByteBuffer.allocate(view.size(name));
            view.read(name, value);
            text.append(" user.").append(name).append('=').append(new String(value.array()));
        }
        return text.toString();
    }
}

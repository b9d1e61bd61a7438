// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.UserDefinedFileAttributeView;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.TreeSet;

/** A tree as one line a file: type, mode, owner, size, content, links, device numbers and xattrs. */
public final class TreeListing {
    private TreeListing() {}

    /** Of files as the kernel shows them, with their times or without. */
    public static Map<String, String> ofDirectory(Path root, boolean times) throws IOException {
        Map<String, String> lines = new TreeMap<>();
        Files.walkFileTree(root, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult preVisitDirectory(Path directory, BasicFileAttributes a) throws IOException {
                return visitFile(directory, a);
            }

            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes a) throws IOException {
                Map<String, Object> unix = Files.readAttributes(file, "unix:*", LinkOption.NOFOLLOW_LINKS);
                int mode = (int) unix.get("mode");
                StringBuilder line =
                        new StringBuilder("%06o %d:%d".formatted(mode, (int) unix.get("uid"), (int) unix.get("gid")));
                if (times) {
                    line.append(' ').append(a.lastModifiedTime().toInstant());
                }
                if (a.isSymbolicLink()) {
                    line.append(" -> ").append(Files.readSymbolicLink(file));
                } else if (a.isRegularFile()) {
                    line.append(" links %d size %d sha256 %s"
                            .formatted((int) unix.get("nlink"), a.size(), sha256(Files.readAllBytes(file))));
                } else if (a.isOther()) {
                    line.append(" rdev %x".formatted((long) unix.get("rdev")));
                }
                if (a.isRegularFile() || a.isDirectory()) {
                    UserDefinedFileAttributeView view =
                            Files.getFileAttributeView(file, UserDefinedFileAttributeView.class);
                    for (String name : new TreeSet<>(view.list())) {
                        ByteBuffer value = ByteBuffer.allocate(view.size(name));
                        view.read(name, value);
                        line.append(" user.%s=%s".formatted(name, HexFormat.of().formatHex(value.array())));
                    }
                }
                lines.put("/" + root.relativize(file), line.toString());
                return FileVisitResult.CONTINUE;
            }
        });
        return lines;
    }

    /** Of files as our reader shows them. */
    public static Map<String, String> ofImage(ErofsFileSystem fs, boolean times) throws IOException {
        Map<String, String> lines = new TreeMap<>();
        add(fs, fs.root(), "/", times, lines);
        return lines;
    }

    private static void add(ErofsFileSystem fs, Inode inode, String path, boolean times, Map<String, String> lines)
            throws IOException {
        StringBuilder line = new StringBuilder("%06o %d:%d".formatted(inode.mode(), inode.uid(), inode.gid()));
        if (times) {
            line.append(' ').append(Instant.ofEpochSecond(inode.seconds(), inode.nanos()));
        }
        switch (inode.type()) {
            case SYMLINK -> line.append(" -> ").append(fs.target(inode));
            case REGULAR -> {
                ByteArrayOutputStream content = new ByteArrayOutputStream();
                fs.copyTo(inode, content);
                line.append(" links %d size %d sha256 %s"
                        .formatted(inode.links(), inode.size(), sha256(content.toByteArray())));
            }
            case DIRECTORY -> {}
            default -> line.append(" rdev %x".formatted(inode.major() << 8 | inode.minor()));
        }
        new TreeMap<>(fs.xattrs(inode)).forEach((name, value) -> {
            // Java shows user.* only; overlay's marks are the merge's own
            if (name.startsWith("user.")) {
                line.append(" %s=%s".formatted(name, HexFormat.of().formatHex(value)));
            }
        });
        lines.put(path, line.toString());
        if (inode.isDirectory()) {
            for (DirectoryEntry entry : fs.list(inode)) {
                if (!entry.isDot()) {
                    add(fs, fs.inode(entry.nid()), (path.equals("/") ? "" : path) + "/" + entry.name(), times, lines);
                }
            }
        }
    }

    /** The lines in which two trees differ, few enough to read. */
    public static List<String> differences(Map<String, String> found, Map<String, String> expected) {
        TreeSet<String> paths = new TreeSet<>(found.keySet());
        paths.addAll(expected.keySet());
        return paths.stream()
                .filter(path -> !Objects.equals(found.get(path), expected.get(path)))
                .map(path -> path + ": " + found.get(path) + " / " + expected.get(path))
                .limit(10)
                .toList();
    }

    private static String sha256(byte[] content) {
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.erofsublk.composer.TestImages;
import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.erofs.ErofsImages;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The running kernel mounts the composed device, and shows what our reader does. */
class KernelViewTest {
    @TempDir
    private Path dir;

    @ParameterizedTest
    @EnumSource
    void kernelAndReaderShowTheSameTree(Kind kind) throws Exception {
        try (ErofsImage image = ErofsImages.fromFiles(kind.meta(), kind.blobs())) {
            Path raw = dir.resolve("raw");
            TestImages.writeAll(image.flat(), raw);
            ErofsFileSystem fs = ErofsFileSystem.open(kind.id(), image.flat());
            try (LoopMount mount = LoopMount.of(raw, image.flat().blockSize(), dir.resolve("mnt"))) {
                assertThat(TreeListing.differences(
                                TreeListing.ofImage(fs, true), TreeListing.ofDirectory(mount.path(), true)))
                        .isEmpty();
                assertThat(TreeListing.differences(xattrsOfImage(fs), xattrsOfKernel(mount.path())))
                        .isEmpty();
            }
        }
    }

    private static Map<String, String> xattrsOfImage(ErofsFileSystem fs) throws IOException {
        Map<String, String> lines = new TreeMap<>();
        addXattrs(fs, fs.root(), "/", lines);
        assertThat(lines).isNotEmpty();
        return lines;
    }

    private static void addXattrs(ErofsFileSystem fs, Inode inode, String path, Map<String, String> lines)
            throws IOException {
        fs.xattrs(inode)
                .forEach((name, value) ->
                        lines.put(path + " " + name, HexFormat.of().formatHex(value)));
        for (DirectoryEntry entry : inode.isDirectory() ? fs.list(inode) : List.<DirectoryEntry>of()) {
            if (!entry.isDot()) {
                addXattrs(fs, fs.inode(entry.nid()), (path.equals("/") ? "" : path) + "/" + entry.name(), lines);
            }
        }
    }

    private static Map<String, String> xattrsOfKernel(Path root) throws Exception {
        Map<String, String> lines = new TreeMap<>();
        String file = "";
        for (String line : LoopMount.run(List.of(
                        tool("host-tools", "getfattr"),
                        "--absolute-names",
                        "-h",
                        "-P",
                        "-R",
                        "-d",
                        "-m",
                        "-",
                        "-e",
                        "hex",
                        root.toString()))
                .split("\n", -1)) {
            if (line.startsWith("# file: ")) {
                file = "/" + root.relativize(Path.of(line.substring(8)));
            } else if (line.contains("=0x")) {
                int at = line.indexOf("=0x");
                lines.put(file + " " + line.substring(0, at), line.substring(at + 3));
            }
        }
        return lines;
    }

    /** A program of the Debian packages that a script in scripts/lib makes runnable. */
    static String tool(String scriptName, String program) throws IOException {
        return LoopMount.run(List.of(script(scriptName).toString())).strip() + "/" + program;
    }

    private static Path script(String name) {
        Path root = Path.of("").toAbsolutePath();
        while (!Files.exists(root.resolve("scripts/lib"))) {
            root = root.getParent();
        }
        return root.resolve("scripts/lib").resolve(name);
    }

    /** A file mounted through a loop device, read-only. */
    record LoopMount(Path path, String device) implements AutoCloseable {
        /** Not run, and said to be so, where loop devices or EROFS are not to be had. */
        static LoopMount of(Path file, int blockSize, Path mountPoint) throws Exception {
            assumeTrue(Linux.effectiveUserId() == 0, "not run: mounting needs root");
            assumeTrue(
                    Files.readString(Path.of("/proc/filesystems")).contains("erofs"),
                    "not run: the running kernel has no EROFS");
            assumeTrue(Files.exists(Path.of("/dev/loop-control")), "not run: there are no loop devices");
            Files.createDirectories(mountPoint);
            String device = run(List.of("losetup", "-r", "-b", "" + blockSize, "--show", "-f", file.toString()))
                    .strip();
            try {
                run(List.of("mount", "-t", "erofs", "-o", "ro", device, mountPoint.toString()));
            } catch (Exception e) {
                run(List.of("losetup", "-d", device));
                throw e;
            }
            return new LoopMount(mountPoint, device);
        }

        static String run(List<String> command) throws IOException {
            Process process = new ProcessBuilder(new ArrayList<>(command))
                    .redirectErrorStream(true)
                    .start();
            String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            assertThat(process.onExit().join().exitValue())
                    .as(command + ": " + output)
                    .isZero();
            return output;
        }

        @Override
        public void close() throws IOException {
            run(List.of("umount", path.toString()));
            run(List.of("losetup", "-d", device));
        }
    }
}

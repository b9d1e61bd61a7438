// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The calls with which files are copied and get their names. */
class LinuxFilesTest {
    @TempDir
    private Path dir;

    @Test
    void copyRangeCopiesFromAndToAnyOffset() throws Exception {
        Path from = Files.writeString(dir.resolve("from"), "0123456789");
        Path to = Files.writeString(dir.resolve("to"), "abcdefghij");
        int source = Linux.open(from.toString(), Linux.O_RDONLY);
        int target = Linux.open(to.toString(), Linux.O_RDWR);
        try {
            assertThat(Linux.copyRange(source, 2, target, 5, 3)).isEqualTo(3);
            assertThat(Linux.copyRange(source, 10, target, 0, 3)).isZero();
            assertThatThrownBy(() -> Linux.copyRange(target, 0, source, 0, 3)).isInstanceOf(LinuxException.class);
        } finally {
            Linux.close(source);
            Linux.close(target);
        }
        assertThat(to).hasContent("abcde234ij");
    }

    @Test
    void seekTellsDataFromHoles() throws Exception {
        Path file = dir.resolve("sparse");
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
            channel.write(ByteBuffer.wrap(new byte[] {1}), 1 << 20);
        }
        int fd = Linux.open(file.toString(), Linux.O_RDWR);
        try {
            Linux.truncate(fd, 2 << 20);
            assertThat(Linux.seekData(fd, 0)).isBetween((1L << 20) - 65536, 1L << 20);
            assertThat(Linux.seekHole(fd, 1 << 20)).isBetween((1L << 20) + 1, (1L << 20) + 65536);
            assertThat(Linux.seekData(fd, (1 << 20) + 65536)).isEqualTo(-1);
            Linux.sync(fd);
        } finally {
            Linux.close(fd);
        }
    }

    @Test
    void renameNoReplaceReplacesNothing() throws Exception {
        Path one = Files.writeString(dir.resolve("one"), "1");
        Path two = Files.writeString(dir.resolve("two"), "2");
        assertThatThrownBy(() -> Linux.renameNoReplace(one.toString(), two.toString()))
                .isInstanceOfSatisfying(
                        LinuxException.class, e -> assertThat(e.errno()).isEqualTo(Errno.EEXIST));
        assertThat(two).hasContent("2");
        Linux.renameNoReplace(one.toString(), dir.resolve("three").toString());
        assertThat(dir.resolve("three")).hasContent("1");
        assertThat(one).doesNotExist();
    }
}

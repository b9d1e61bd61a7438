// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.FirstTouches;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.source.ImageSource;
import dev.erofsublk.composer.trace.AccessTrace;
import dev.erofsublk.composer.trace.ImageIdentity;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(60)
class AccessHistoryTest {
    private static final int UNIT = FirstTouches.UNIT_BYTES;

    @TempDir
    private Path dir;

    private Path file;
    private Image image;
    private AddressSpace space;

    @BeforeEach
    void open() throws Exception {
        file = Files.write(dir.resolve("image.raw"), new byte[10 * UNIT]);
        image = ImageSource.ofFile(file).open();
        space = AddressSpace.map(image.flat());
    }

    @AfterEach
    void close() {
        space.close();
        image.close();
    }

    private AccessTrace trace(Path path) throws IOException {
        return AccessTrace.read(path, ImageIdentity.of(image));
    }

    private void touch(int unit) {
        Objects.requireNonNull(space.touches()).touch((long) unit * UNIT, 1);
    }

    @Test
    void nothingIsNotedUnlessSomebodyWantsIt() throws Exception {
        try (AccessHistory history = AccessHistory.open(TraceFiles.NONE, image, space)) {
            history.start("/dev/x", (offset, bytes) -> {
                throw new AssertionError("nothing to load");
            });
            assertThat(history.prefetchLeft()).isZero();
        }
        assertThat(space.touches()).isNull();
    }

    @Test
    void theEndWritesTheRecordingAndTheNextStartLoadsIt() throws Exception {
        Path trace = dir.resolve("trace");
        AccessHistory first = AccessHistory.open(new TraceFiles(trace, null), image, space);
        touch(7);
        touch(3);
        assertThat(trace).doesNotExist();
        first.close();
        assertThat(trace(trace).runs()).containsExactly(FirstTouches.run(7, 1), FirstTouches.run(3, 1));
        touch(5); // too late
        first.close();
        assertThat(trace(trace).units()).isEqualTo(2);

        ConcurrentLinkedQueue<Long> loaded = new ConcurrentLinkedQueue<>();
        try (AccessHistory history = AccessHistory.open(new TraceFiles(null, trace), image, space)) {
            history.start("/dev/x", (offset, bytes) -> loaded.add(offset));
            while (history.prefetchLeft() > 0) {
                Thread.onSpinWait();
            }
        }
        assertThat(loaded).containsExactlyInAnyOrder(3L * UNIT, 7L * UNIT);
    }

    @Test
    void whatCannotBeRefusesTheStart() throws Exception {
        Path other = dir.resolve("other");
        new AccessTrace(new ImageIdentity("raw", "", 1), new long[0]).write(other);
        assertThatThrownBy(() -> AccessHistory.open(new TraceFiles(null, other), image, space))
                .isInstanceOf(ImageException.class)
                .hasMessage(other + ": size is \"1\", expected 655360, that of the image");
        assertThatThrownBy(() -> AccessHistory.open(new TraceFiles(null, dir.resolve("none")), image, space))
                .isInstanceOf(IOException.class)
                .hasMessageContaining(dir.resolve("none").toString());
        assertThatThrownBy(() -> AccessHistory.open(new TraceFiles(file, null), image, space))
                .hasMessage(file + ": it is a part of the image");
        assertThatThrownBy(() -> AccessHistory.open(new TraceFiles(dir, null), image, space))
                .hasMessage(dir + ": it is no regular file and is not replaced");
        Path nowhere = dir.resolve("none/trace");
        assertThatThrownBy(() -> AccessHistory.open(new TraceFiles(nowhere, null), image, space))
                .hasMessage(nowhere + ": " + dir.resolve("none") + " is no directory that can be written to");
    }

    @Test
    void aTakeOverGoesOnWithTheRecording() throws Exception {
        Path trace = dir.resolve("trace");
        AccessHistory first = AccessHistory.open(new TraceFiles(trace, null), image, space);
        touch(7);
        first.close();
        AccessHistory next = AccessHistory.reopen(new TraceFiles(trace, trace), image, space);
        touch(7);
        touch(3);
        next.close();
        assertThat(trace(trace).runs()).containsExactly(FirstTouches.run(7, 1), FirstTouches.run(3, 1));
    }

    @Test
    void noTakeOverFailsForATrace() throws Exception {
        Path damaged = Files.writeString(dir.resolve("damaged"), "erofs-ublk trace 1\n");
        for (Path prefetch : List.of(damaged, dir.resolve("gone"))) {
            AccessHistory history = AccessHistory.reopen(new TraceFiles(damaged, prefetch), image, space);
            touch(1);
            history.close();
            assertThat(trace(damaged).units()).isEqualTo(1);
            Files.writeString(damaged, "");
        }
        AccessHistory.reopen(new TraceFiles(dir.resolve("gone/trace"), null), image, space)
                .close();
    }

    @Test
    void tracesLieInDirectoriesThatAreAllowed() throws Exception {
        AllowedPaths allowed = AllowedPaths.of(List.of(Files.createDirectory(dir.resolve("allowed"))));
        allowed.check(TraceFiles.NONE);
        allowed.check(new TraceFiles(dir.resolve("allowed/trace"), null));
        assertThatThrownBy(() -> allowed.check(new TraceFiles(dir.resolve("trace"), null)))
                .isInstanceOf(DaemonException.class)
                .hasMessageContaining("expected one under");
        Path link = Files.createSymbolicLink(dir.resolve("allowed/link"), file);
        assertThatThrownBy(() -> allowed.check(new TraceFiles(null, link)))
                .isInstanceOf(DaemonException.class)
                .hasMessageContaining("path is " + file.toRealPath());
    }
}

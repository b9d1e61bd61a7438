// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Decoded;
import dev.erofsublk.composer.FirstTouches;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Residency;
import dev.erofsublk.uring.Cqe;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.IoUring;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.Ring;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Loading over a real ring; files are in memory, so that holes stand for what is not in the page cache. */
class LoadingTest {
    private static final int UNIT = Residency.UNIT_BYTES;

    private final List<AutoCloseable> open = new ArrayList<>();

    @AfterEach
    void closeAll() throws Exception {
        for (int i = open.size(); i-- > 0; ) {
            open.get(i).close();
        }
    }

    private <T extends AutoCloseable> T opened(T resource) {
        open.add(resource);
        return resource;
    }

    private static Blob blob(long bytes) throws IOException {
        int file = Linux.memoryFile("blob");
        Linux.truncate(file, bytes);
        return Blob.adopt(Path.of("blob"), file);
    }

    private static void fill(Blob blob, long offset, int bytes) throws IOException {
        Linux.write(blob.fd(), Arena.ofAuto().allocate(bytes), offset);
    }

    private AddressSpace mapped(FlatImage.Builder flat) throws IOException {
        FlatImage image = opened(flat.build());
        return opened(AddressSpace.map(image));
    }

    private Ring ring() throws IOException {
        return opened(Ring.create(4, IoUring.QUEUE_SETUP));
    }

    /** User data and result of the next completion. */
    private static long[] completion(Ring ring) throws IOException {
        while (ring.ready() == 0) {
            ring.submitAndWait(1);
        }
        long[] completion = {Cqe.userData(ring.cqes(), ring.cqe(0)), Cqe.result(ring.cqes(), ring.cqe(0))};
        ring.consume(1);
        return completion;
    }

    @Test
    void pagesThatAreInThePageCacheNeedOneLook() throws Exception {
        Blob blob = blob(4 * UNIT);
        fill(blob, UNIT, UNIT);
        AddressSpace space = mapped(FlatImage.builder(4096).append(blob.size(), blob, 0));
        try (Loading loading = new Loading(space, ring(), 1)) {
            assertThat(space.residency().missing()).isEqualTo(4);
            assertThat(loading.isLoaded(UNIT + 8192, UNIT + 8192, 4096)).isTrue();
            assertThat(space.residency().covers(UNIT, UNIT)).isTrue();
            assertThat(space.residency().missing()).isEqualTo(3);
            assertThat(loading.isLoaded(UNIT, UNIT, UNIT + 1))
                    .as("into the next unit")
                    .isFalse();
        }
    }

    /** A fault within the driver's copy may fail when the server is killed there, and Linux 7.2 then fails the read. */
    @Test
    void whatCountsAsLoadedIsMapped() throws Exception {
        Blob blob = blob(4 * UNIT);
        fill(blob, 0, 4 * UNIT);
        AddressSpace space = mapped(FlatImage.builder(4096).append(blob.size(), blob, 0));
        try (Loading loading = new Loading(space, ring(), 1)) {
            assertThat(mappedPages(space.base(), 4 * UNIT)).isZero();
            assertThat(loading.isLoaded(UNIT, UNIT, UNIT + 4096)).isTrue();
            assertThat(mappedPages(space.base() + UNIT, 2 * UNIT)).isEqualTo(2 * UNIT / Linux.PAGE_SIZE);
        }
    }

    /** Of this process's page table (Documentation/admin-guide/mm/pagemap.rst: bit 63 is "page present"). */
    private static long mappedPages(long address, int bytes) throws IOException {
        int fd = Linux.open("/proc/self/pagemap", Linux.O_RDONLY);
        MemorySegment entries = Arena.ofAuto().allocate(bytes / Linux.PAGE_SIZE * 8L, 8);
        Linux.read(fd, entries, address / Linux.PAGE_SIZE * 8);
        Linux.close(fd);
        return entries.elements(JAVA_LONG)
                .filter(entry -> entry.get(JAVA_LONG, 0) < 0)
                .count();
    }

    @Test
    void absentPagesComeInThroughTheRing() throws Exception {
        Blob blob = blob(4 * UNIT);
        AddressSpace space = mapped(FlatImage.builder(4096).append(blob.size(), blob, 0));
        Ring ring = ring();
        try (Loading loading = new Loading(space, ring, 1)) {
            assertThat(loading.isLoaded(0, 0, 4096)).isFalse();
            loading.start(3, 0, 0, 4096);
            assertThat(completion(ring)).containsExactly(UserData.of(UserData.POPULATED, 3), 0);
            loading.mark(0, 4096);
            assertThat(space.residency().isResident(0)).isTrue();
            assertThat(loading.isLoaded(0, 0, UNIT)).isTrue();
        }
    }

    @Test
    void aReaderThatGoesForwardFindsTheNextUnitsPopulated() throws Exception {
        Blob blob = blob(64 * UNIT);
        AddressSpace space = mapped(FlatImage.builder(4096).append(blob.size(), blob, 0));
        Ring ring = ring();
        try (Loading loading = new Loading(space, ring, 1)) {
            loading.start(0, 0, 0, UNIT);
            assertThat(UserData.kind(completion(ring)[0])).isEqualTo(UserData.POPULATED);
            loading.start(0, UNIT, UNIT, UNIT);
            long ahead = 0;
            for (int i = 0; i < 2; i++) {
                long[] completion = completion(ring);
                assertThat(completion[1]).isZero();
                if (UserData.kind(completion[0]) == UserData.AHEAD) {
                    ahead = completion[0];
                    loading.cameAhead(completion[0], 0);
                }
            }
            assertThat(UserData.unit(ahead)).isEqualTo(2);
            assertThat(UserData.count(ahead)).isEqualTo(2);
            assertThat(space.residency().isResident(2)).as("is the mark").isFalse();
            assertThat(space.residency().isResident(3)).isTrue();

            assertThat(loading.isLoaded(2 * UNIT, 2 * UNIT, UNIT))
                    .as("is there")
                    .isTrue();
            long[] next = completion(ring);
            assertThat(UserData.unit(next[0])).as("ahead of who reads the mark").isEqualTo(4);
            assertThat(UserData.count(next[0])).isEqualTo(4);
        }
    }

    @Test
    void whatIsReadAheadCountsAsReadOnlyOnceSomebodyReadsIt() throws Exception {
        Blob blob = blob(64 * UNIT);
        fill(blob, 40 * UNIT, UNIT);
        AddressSpace space = mapped(FlatImage.builder(4096).append(blob.size(), blob, 0));
        FirstTouches touches = new FirstTouches();
        space.note(touches);
        Ring ring = ring();
        try (Loading loading = new Loading(space, ring, 1)) {
            assertThat(loading.isLoaded(40 * UNIT, 40 * UNIT, 4096))
                    .as("in the page cache before")
                    .isTrue();
            for (int unit = 0; unit < 2; unit++) {
                assertThat(loading.isLoaded(unit * UNIT, unit * UNIT, UNIT)).isFalse();
                loading.start(0, unit * UNIT, unit * UNIT, UNIT);
            }
            for (int i = 0; i < 3; i++) {
                long[] completion = completion(ring);
                if (UserData.kind(completion[0]) == UserData.AHEAD) {
                    loading.cameAhead(completion[0], (int) completion[1]);
                }
            }
            assertThat(touches.runs()).containsExactly(FirstTouches.run(40, 1), FirstTouches.run(0, 2));
            assertThat(space.residency().isResident(2)).as("was read ahead").isFalse();
            assertThat(loading.isLoaded(2 * UNIT, 2 * UNIT, UNIT))
                    .as("is there")
                    .isTrue();
            assertThat(touches.runs()).containsExactly(FirstTouches.run(40, 1), FirstTouches.run(0, 3));
        }
    }

    @Test
    void aFileCutShortFailsForTheWholeUnitButNotForTheBytesThatAreLeft() throws Exception {
        Blob blob = blob(2 * UNIT);
        AddressSpace space = mapped(FlatImage.builder(4096).append(blob.size(), blob, 0));
        Ring ring = ring();
        try (Loading loading = new Loading(space, ring, 1)) {
            Linux.truncate(blob.fd(), UNIT + 8192);
            loading.start(0, UNIT, UNIT, 4096);
            assertThat(completion(ring)).containsExactly(UserData.of(UserData.POPULATED, 0), -Errno.EFAULT);
            loading.populateExactly(0, space.base() + UNIT, 4096);
            assertThat(completion(ring)).containsExactly(UserData.of(UserData.POPULATED_EXACTLY, 0), 0);
            loading.populateExactly(0, space.base() + UNIT + 8192, 4096);
            assertThat(completion(ring)).containsExactly(UserData.of(UserData.POPULATED_EXACTLY, 0), -Errno.EFAULT);
        }
    }

    @Test
    void encodedBytesAreDecodedElsewhereWhileTheQueueGoesOn() throws Exception {
        Encoded encoded = new Encoded(blob(4 * UNIT));
        AddressSpace space = mapped(FlatImage.builder(4096).append(encoded.size(), encoded, 0));
        Ring ring = ring();
        try (Loading loading = new Loading(space, ring, 1)) {
            assertThat(loading.isLoaded(0, 0, 4096)).isFalse();
            loading.start(1, 0, 0, 4096); // it is decoded only when the gate opens
            ring.submitAndWait(0);
            assertThat(ring.ready()).isZero();
            encoded.gate.countDown();
            assertThat(UserData.kind(completion(ring)[0])).isEqualTo(UserData.INBOX);
            assertThat(answers(loading)).containsExactly("1 true");
            fill(encoded.cache, 0, UNIT); // the stand-in writes nothing of its own
            assertThat(loading.isLoaded(0, 0, 4096)).isTrue();
        }
    }

    @Test
    void damagedBytesFailTheRequestsThatWantThemAndNoOthers() throws Exception {
        Encoded encoded = new Encoded(blob(4 * UNIT));
        encoded.gate.countDown();
        encoded.damaged = UNIT / 2;
        AddressSpace space = mapped(FlatImage.builder(4096).append(encoded.size(), encoded, 0));
        Ring ring = ring();
        try (Loading loading = new Loading(space, ring, 1)) {
            loading.start(1, 0, 0, 4096);
            completion(ring);
            assertThat(answers(loading)).containsExactly("1 true");
            loading.start(2, UNIT / 2, UNIT / 2, 4096);
            completion(ring);
            assertThat(answers(loading)).containsExactly("2 false");
        }
    }

    @Test
    void aDecoderThatFailsInAnyOtherWayStillAnswers() throws Exception {
        Encoded encoded = new Encoded(blob(UNIT));
        encoded.gate.countDown();
        encoded.broken = true;
        AddressSpace space = mapped(FlatImage.builder(4096).append(encoded.size(), encoded, 0));
        Ring ring = ring();
        try (Loading loading = new Loading(space, ring, 1)) {
            loading.start(5, 0, 0, 4096);
            completion(ring);
            assertThat(answers(loading)).containsExactly("5 false");
        }
    }

    private static List<String> answers(Loading loading) throws IOException {
        List<String> answers = new ArrayList<>();
        loading.drainInbox((tag, readable) -> answers.add(tag + " " + readable));
        return answers;
    }

    /** Decodes pages of 4 KiB when its gate is open; the one at {@link #damaged} cannot be. */
    private static final class Encoded implements Decoded {
        private final Blob cache;
        private final BitSet present = new BitSet();
        private final CountDownLatch gate = new CountDownLatch(1);
        private long damaged = -1;
        private boolean broken;

        Encoded(Blob cache) {
            this.cache = cache;
        }

        @Override
        public Blob cache() {
            return cache;
        }

        @Override
        public int unit() {
            return 4096;
        }

        @Override
        public synchronized boolean present(long offset, long length) {
            return present.nextClearBit((int) (offset / 4096)) >= (offset + length + 4095) / 4096;
        }

        @Override
        public void ensure(long offset, long length) throws IOException {
            try {
                gate.await();
            } catch (InterruptedException e) {
                throw new IOException(e);
            }
            if (broken) {
                throw new IllegalStateException("a defect of the decoder");
            }
            if (damaged >= offset && damaged < offset + length) {
                throw new IOException("unit at " + damaged + " is damaged");
            }
            synchronized (this) {
                present.set((int) (offset / 4096), (int) ((offset + length + 4095) / 4096));
            }
        }

        @Override
        public String name() {
            return "encoded";
        }

        @Override
        public long size() {
            return cache.size();
        }

        @Override
        public void read(long offset, MemorySegment target) throws IOException {
            cache.read(offset, target);
        }

        @Override
        public void close() {
            cache.close();
        }
    }
}

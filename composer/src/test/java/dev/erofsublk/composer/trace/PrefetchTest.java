// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.trace;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.FirstTouches;
import java.util.BitSet;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class PrefetchTest {
    private static final int UNIT = FirstTouches.UNIT_BYTES;
    private static final ImageIdentity IMAGE = new ImageIdentity("raw", "", 1000L * UNIT - 512);

    private static BitSet units(long[] runs) {
        BitSet units = new BitSet();
        for (long run : runs) {
            int first = (int) FirstTouches.first(run);
            units.set(first, first + FirstTouches.count(run));
        }
        return units;
    }

    @Test
    void thePiecesAreTheTraceAndNothingElse() {
        long seed = new Random().nextLong();
        System.out.println("seed " + seed);
        Random random = new Random(seed);
        for (int i = 0; i < 300; i++) {
            long[] runs = random.longs(random.nextInt(400), 0, 1000)
                    .map(first -> FirstTouches.run(first, 1 + random.nextInt(40)))
                    .toArray();
            long[] pieces = Prefetch.plan(runs);
            assertThat(units(pieces)).isEqualTo(units(runs));
            for (long piece : pieces) {
                assertThat(FirstTouches.count(piece)).isBetween(1, Prefetch.PIECE);
            }
        }
    }

    @Test
    void twoReadersSideBySideAreTwoPiecesAndWhatWasReadLaterComesLater() {
        long[] runs = new long[100];
        for (int i = 0; i < 16; i++) {
            runs[2 * i] = FirstTouches.run(500 + i, 1);
            runs[2 * i + 1] = FirstTouches.run(100 + i, 1);
        }
        for (int i = 32; i < runs.length; i++) {
            runs[i] = FirstTouches.run(900 - 2 * i, 1);
        }
        long[] pieces = Prefetch.plan(runs);
        assertThat(pieces).contains(FirstTouches.run(100, 16), FirstTouches.run(500, 16));
        assertThat(pieces[pieces.length - 1]).as("of the last window").isEqualTo(FirstTouches.run(900 - 2 * 64, 1));
    }

    @Test
    void allOfItIsBroughtInAndNoMoreThanAFewPiecesAtATime() throws Exception {
        long[] runs = {FirstTouches.run(0, 100), FirstTouches.run(990, 10), FirstTouches.run(400, 200)};
        AtomicInteger at = new AtomicInteger();
        AtomicInteger most = new AtomicInteger();
        ConcurrentLinkedQueue<Long> loaded = new ConcurrentLinkedQueue<>();
        try (Prefetch prefetch = Prefetch.start("x", new AccessTrace(IMAGE, runs), IMAGE.size(), (offset, bytes) -> {
            most.accumulateAndGet(at.incrementAndGet(), Math::max);
            assertThat(offset + bytes).isLessThanOrEqualTo(IMAGE.size());
            loaded.add(FirstTouches.run(offset / UNIT, (int) ((bytes + UNIT - 1) / UNIT)));
            Thread.onSpinWait();
            at.decrementAndGet();
            return true;
        })) {
            while (prefetch.left() > 0) {
                Thread.sleep(1);
            }
        }
        assertThat(most.get()).isBetween(1, Prefetch.LANES);
        assertThat(units(loaded.stream().mapToLong(Long::longValue).toArray())).isEqualTo(units(runs));
    }

    @Test
    void closingWaitsForWhatIsOnItsWayAndBeginsNothingElse() throws Exception {
        CountDownLatch begun = new CountDownLatch(Prefetch.LANES);
        Semaphore gate = new Semaphore(0);
        AtomicInteger loads = new AtomicInteger();
        AccessTrace trace = new AccessTrace(IMAGE, new long[] {FirstTouches.run(0, 900)});
        Prefetch prefetch = Prefetch.start("x", trace, IMAGE.size(), (offset, bytes) -> {
            loads.incrementAndGet();
            begun.countDown();
            gate.acquireUninterruptibly();
            return true;
        });
        begun.await();
        Thread closer = Thread.ofPlatform().start(prefetch::close);
        assertThat(closer.join(java.time.Duration.ofMillis(50))).isFalse();
        gate.release(Prefetch.LANES);
        closer.join();
        assertThat(loads).hasValue(Prefetch.LANES);
        assertThat(prefetch.left()).isEqualTo(900 - Prefetch.LANES * Prefetch.PIECE);
        prefetch.close();
    }

    @Test
    void aPieceThatFailsLeavesTheOthersAlone() throws Exception {
        AtomicInteger loads = new AtomicInteger();
        AccessTrace trace = new AccessTrace(IMAGE, new long[] {FirstTouches.run(0, 20 * Prefetch.PIECE)});
        try (Prefetch prefetch = Prefetch.start("x", trace, IMAGE.size(), (offset, bytes) -> {
            if (loads.incrementAndGet() % 2 == 0) {
                throw new IllegalStateException("a defect of the decoder");
            }
            return false;
        })) {
            while (prefetch.left() > 0) {
                Thread.sleep(1);
            }
        }
        assertThat(loads).hasValue(20);
    }

    @Test
    void anEmptyTraceIsDoneAtOnce() {
        try (Prefetch prefetch =
                Prefetch.start("x", new AccessTrace(IMAGE, new long[0]), IMAGE.size(), (offset, bytes) -> {
                    throw new AssertionError(List.of(offset, bytes));
                })) {
            assertThat(prefetch.left()).isZero();
        }
    }
}

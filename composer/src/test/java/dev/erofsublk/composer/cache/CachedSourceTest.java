// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.cache;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.RepeatedTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(60)
final class CachedSourceTest {
    private static final byte[] IDENTITY = {1, 2, 3};

    @TempDir
    Path directory;

    private CachedSource open(PieceDecoder decoder, Pieces pieces) throws IOException {
        return CacheDirectory.at(directory).open("test", IDENTITY, pieces, decoder);
    }

    @Test
    void aReadDecodesThePiecesItTouchesAndNoOther() throws Exception {
        Pieces pieces = PatternDecoder.pieces(4096, 8192, 4096, 12288, 100);
        PatternDecoder decoder = new PatternDecoder(pieces);
        try (CachedSource source = open(decoder, pieces);
                Arena arena = Arena.ofConfined()) {
            assertThat(source.size()).isEqualTo(28772);
            assertThat(source.unit()).isEqualTo(Math.max(4096, Linux.PAGE_SIZE));
            MemorySegment read = arena.allocate(8192);
            source.read(10_000, read);
            assertThat(PatternDecoder.matches(read, 10_000)).isTrue();
            assertThat(decoder.decoded.toString()).isEqualTo("[0, 1, 1, 1, 0]");
            assertThat(source.present(4096, 24576)).isTrue();
            assertThat(source.present(4095, 2)).isFalse();
            assertThat(source.present(28771, 1)).isFalse();
            source.ensure(0, source.size());
            source.ensure(0, source.size());
            assertThat(decoder.decoded.toString()).isEqualTo("[1, 1, 1, 1, 1]");
            assertThat(source.presentCount()).isEqualTo(5);
        }
        assertThat(decoder.closed).isTrue();
    }

    @Test
    void theCacheFileHasTheBytesAtTheirOwnOffsets() throws Exception {
        Pieces pieces = Pieces.uniform(70_000, 16384);
        try (CachedSource source = open(new PatternDecoder(pieces), pieces);
                Arena arena = Arena.ofConfined()) {
            assertThat(source.unit()).isEqualTo(16384);
            source.ensure(20_000, 1);
            MemorySegment file = arena.allocate(70_000);
            source.cache().read(0, file);
            assertThat(PatternDecoder.matches(file.asSlice(16384, 16384), 16384))
                    .isTrue();
            assertThat(file.asSlice(0, 16384).mismatch(arena.allocate(16384))).isEqualTo(-1);
        }
    }

    @Test
    void aRangeOutsideIsRefused() throws Exception {
        Pieces pieces = Pieces.uniform(8192, 4096);
        try (CachedSource source = open(new PatternDecoder(pieces), pieces)) {
            assertThatThrownBy(() -> source.ensure(8192, 1)).isInstanceOf(IndexOutOfBoundsException.class);
            assertThatThrownBy(() -> source.present(1, Long.MAX_VALUE)).isInstanceOf(IndexOutOfBoundsException.class);
            source.ensure(8192, 0);
        }
    }

    @RepeatedTest(5)
    void manyThreadsDecodeEveryPieceOnceAndReadItRight() throws Exception {
        long seed = System.nanoTime();
        System.out.println("seed " + seed);
        int[] lengths = new Random(seed).ints(300, 1, 6).map(n -> n * 4096).toArray();
        Pieces pieces = PatternDecoder.pieces(lengths);
        PatternDecoder decoder = new PatternDecoder(pieces);
        int threads = 8;
        CyclicBarrier start = new CyclicBarrier(threads);
        try (CachedSource source = open(decoder, pieces);
                ExecutorService pool = Executors.newFixedThreadPool(threads)) {
            List<Future<Void>> readers = new ArrayList<>();
            for (int t = 0; t < threads; t++) {
                Random random = new Random(seed + t);
                readers.add(pool.submit((Callable<Void>) () -> {
                    start.await();
                    for (int i = 0; i < 200; i++) {
                        int length = 1 + random.nextInt(60_000);
                        long at = random.nextLong(source.size() - length);
                        try (Arena arena = Arena.ofConfined()) {
                            MemorySegment read = arena.allocate(length);
                            source.read(at, read);
                            assertThat(PatternDecoder.matches(read, at))
                                    .as("[%d, +%d)", at, length)
                                    .isTrue();
                            assertThat(source.present(at, length)).isTrue();
                        }
                    }
                    return null;
                }));
            }
            for (Future<Void> reader : readers) {
                reader.get();
            }
        }
        for (int i = 0; i < pieces.count(); i++) {
            assertThat(decoder.decoded.get(i)).as("piece %d, seed %d", i, seed).isLessThanOrEqualTo(1);
        }
    }

    @Test
    void whoWaitsForAPieceIsWokenByTheOneWhoDecodesIt() throws Exception {
        Pieces pieces = Pieces.uniform(4096, 4096);
        CountDownLatch decoding = new CountDownLatch(1);
        CountDownLatch goOn = new CountDownLatch(1);
        PatternDecoder decoder = new PatternDecoder(pieces) {
            @Override
            public void decode(int piece, Sink sink) throws IOException {
                decoding.countDown();
                await(goOn);
                super.decode(piece, sink);
            }
        };
        try (CachedSource source = open(decoder, pieces);
                ExecutorService pool = Executors.newFixedThreadPool(3)) {
            List<Future<?>> readers = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                readers.add(pool.submit(() -> {
                    source.ensure(0, 1);
                    return null;
                }));
            }
            await(decoding);
            assertThat(source.present(0, 1)).isFalse();
            assertThat(readers).noneMatch(Future::isDone);
            goOn.countDown();
            for (Future<?> reader : readers) {
                reader.get(10, TimeUnit.SECONDS);
            }
            assertThat(decoder.decoded.get(0)).isEqualTo(1);
        }
    }

    @Test
    void piecesOfOneGroupAreDecodedTogether() throws Exception {
        Pieces pieces = Pieces.uniform(8 * 4096, 4096);
        AtomicInteger calls = new AtomicInteger();
        PatternDecoder decoder = new PatternDecoder(pieces) {
            @Override
            public int group(int piece) {
                return piece / 4;
            }

            @Override
            public void decode(int piece, Sink sink) throws IOException {
                calls.incrementAndGet();
                for (int i = piece / 4 * 4; i < piece / 4 * 4 + 4; i++) {
                    if (sink.wants(i)) {
                        put(i, sink);
                    }
                }
            }
        };
        try (CachedSource source = open(decoder, pieces);
                ExecutorService pool = Executors.newFixedThreadPool(4)) {
            List<Future<?>> readers = new ArrayList<>();
            for (int i = 0; i < 4; i++) {
                long at = i * 4096L;
                readers.add(pool.submit(() -> {
                    source.ensure(at, 1);
                    return null;
                }));
            }
            for (Future<?> reader : readers) {
                reader.get();
            }
            assertThat(calls.get()).isEqualTo(1);
            assertThat(source.presentCount()).isEqualTo(4);
        }
    }

    @Test
    void aPieceThatFailsIsNotPresentAndIsTriedAgain() throws Exception {
        Pieces pieces = Pieces.uniform(2 * 4096, 4096);
        AtomicInteger failures = new AtomicInteger(2);
        PatternDecoder decoder = new PatternDecoder(pieces) {
            @Override
            public void decode(int piece, Sink sink) throws IOException {
                if (piece == 1 && failures.getAndDecrement() > 0) {
                    throw new DecodeException("pattern", "chunk 1", 1, 4096, "/a\nb", "broken", null);
                }
                super.decode(piece, sink);
            }
        };
        try (CachedSource source = open(decoder, pieces)) {
            for (int i = 0; i < 2; i++) {
                assertThatThrownBy(() -> source.ensure(0, 8192))
                        .isInstanceOf(DecodeException.class)
                        .hasMessage("pattern: chunk 1 (decoded offset 4096, of /a?b): broken");
                assertThat(source.present(4096, 1)).isFalse();
                assertThat(source.present(0, 4096)).isTrue();
            }
            source.ensure(0, 8192);
            assertThat(source.present(0, 8192)).isTrue();
        }
    }

    @Test
    void whatWasDecodedIsThereWhenItIsOpenedAgain() throws Exception {
        Pieces pieces = Pieces.uniform(10 * 4096, 4096);
        try (CachedSource source = open(new PatternDecoder(pieces), pieces)) {
            source.ensure(4096, 8192);
        }
        PatternDecoder decoder = new PatternDecoder(pieces);
        try (CachedSource source = open(decoder, pieces);
                Arena arena = Arena.ofConfined()) {
            assertThat(source.presentCount()).isEqualTo(2);
            MemorySegment read = arena.allocate(8192);
            source.read(4096, read);
            assertThat(PatternDecoder.matches(read, 4096)).isTrue();
            assertThat(decoder.decoded.get(1) + decoder.decoded.get(2)).isZero();
        }
    }

    @Test
    void twoSourcesOverOneFileUseEachOthersWork() throws Exception {
        Pieces pieces = Pieces.uniform(10 * 4096, 4096);
        PatternDecoder first = new PatternDecoder(pieces);
        PatternDecoder second = new PatternDecoder(pieces);
        try (CachedSource one = open(first, pieces);
                CachedSource other = open(second, pieces)) {
            one.ensure(0, 5 * 4096);
            other.ensure(0, 10 * 4096);
            one.ensure(0, 10 * 4096);
        }
        assertThat(first.decoded.toString()).isEqualTo("[1, 1, 1, 1, 1, 0, 0, 0, 0, 0]");
        assertThat(second.decoded.toString()).isEqualTo("[0, 0, 0, 0, 0, 1, 1, 1, 1, 1]");
    }

    @Test
    void anotherIdentityIsAnotherFile() throws Exception {
        Pieces pieces = Pieces.uniform(4096, 4096);
        CacheDirectory cache = CacheDirectory.at(directory);
        try (CachedSource one = cache.open("a/../b", new byte[] {1}, pieces, new PatternDecoder(pieces));
                CachedSource other = cache.open("a/../b", new byte[] {2}, pieces, new PatternDecoder(pieces))) {
            one.ensure(0, 1);
            assertThat(other.present(0, 1)).isFalse();
            assertThat(one.cache().path()).isNotEqualTo(other.cache().path());
            assertThat(one.cache().path().getParent()).isEqualTo(directory);
        }
    }

    @Test
    void theDirectoryIsForItsOwnerOnly() throws Exception {
        Path fresh = directory.resolve("x/y");
        Pieces pieces = Pieces.uniform(4096, 4096);
        try (CachedSource source = CacheDirectory.at(fresh).open("a", IDENTITY, pieces, new PatternDecoder(pieces))) {
            assertThat(Files.getPosixFilePermissions(fresh)).hasSize(3);
            assertThat(Files.getPosixFilePermissions(source.cache().path())).hasSize(2);
        }
    }

    private static void await(CountDownLatch latch) {
        try {
            assertThat(latch.await(10, TimeUnit.SECONDS)).isTrue();
        } catch (InterruptedException e) {
            throw new AssertionError(e);
        }
    }
}

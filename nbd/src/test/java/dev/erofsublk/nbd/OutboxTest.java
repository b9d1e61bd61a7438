// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.Sockets;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.HashSet;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Replies of which the data may be missing, over a wire that sends as little as it is allowed to. */
class OutboxTest {
    private static final int IMAGE_BYTES = 1 << 20;
    /** What unix_stream_sendmsg puts into one buffer, and so sends as a whole or not at all. */
    private static final int BUFFER_BYTES = 36_544;

    /** A unix socket, or with {@code atomic} off a TCP socket, of which the kernel cannot read bytes in [bad, badEnd). */
    private static final class FaultyWire implements Wire {
        private final ByteArrayOutputStream sent = new ByteArrayOutputStream();
        private final Random random;
        private final boolean atomic;
        private long bad;
        private long badEnd;

        FaultyWire(Random random, boolean atomic) {
            this.random = random;
            this.atomic = atomic;
        }

        @Override
        public int send(MemorySegment messages, int count) {
            int done = 0;
            for (int m = 0; m < count; m++) {
                long at = (long) m * Sockets.MMSGHDR_BYTES;
                long iovecs = messages.get(JAVA_LONG, at + Sockets.MSG_IOV);
                int n = (int) messages.get(JAVA_LONG, at + Sockets.MSG_IOVLEN);
                long total = total(iovecs, n);
                long allowed = allowed(iovecs, n, total);
                if (allowed == 0) {
                    return done > 0 ? done : -Errno.EFAULT;
                }
                take(iovecs, n, allowed);
                messages.set(JAVA_INT, at + Sockets.MSG_LEN, (int) allowed);
                done++;
                if (allowed < total || random.nextInt(4) == 0) {
                    break;
                }
            }
            return done;
        }

        private static long total(long iovecs, int n) {
            long total = 0;
            for (int i = 0; i < n; i++) {
                total += Linux.memory(iovecs + 16L * i, 16).get(JAVA_LONG, 8);
            }
            return total;
        }

        /** The bytes before the first bad one, rounded down to whole buffers; sometimes fewer, as after a signal. */
        private long allowed(long iovecs, int n, long total) {
            long good = 0;
            for (int i = 0; i < n; i++) {
                MemorySegment iovec = Linux.memory(iovecs + 16L * i, 16);
                long address = iovec.get(JAVA_LONG, 0);
                long length = iovec.get(JAVA_LONG, 8);
                if (address < badEnd && address + length > bad) {
                    good += Math.max(0, bad - address);
                    return atomic ? good / BUFFER_BYTES * BUFFER_BYTES : good;
                }
                good += length;
            }
            long whole = atomic ? BUFFER_BYTES : 1;
            return total > whole && random.nextInt(8) == 0 ? whole * (1 + random.nextLong(total / whole)) : total;
        }

        private void take(long iovecs, int n, long bytes) {
            long left = bytes;
            for (int i = 0; i < n && left > 0; i++) {
                MemorySegment iovec = Linux.memory(iovecs + 16L * i, 16);
                long length = Math.min(left, iovec.get(JAVA_LONG, 8));
                sent.writeBytes(Linux.memory(iovec.get(JAVA_LONG, 0), length).toArray(JAVA_BYTE));
                left -= length;
            }
        }

        @Override
        public boolean isAtomic() {
            return atomic;
        }

        @Override
        public int read(MemorySegment target, long at, int length) {
            throw new AssertionError();
        }

        @Override
        public void write(MemorySegment bytes) {
            throw new AssertionError();
        }
    }

    @Test
    void structuredRepliesBecomeErrorsWhereDataIsMissingAndTheConnectionGoesOn() throws IOException {
        long seed = System.nanoTime();
        System.out.println("seed " + seed);
        Random random = new Random(seed);
        int errors = 0;
        for (int round = 0; round < 60; round++) {
            errors += structured(random, new FaultyWire(random, true));
        }
        assertThat(errors).isGreaterThan(30);
    }

    private static int structured(Random random, FaultyWire wire) throws IOException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment image = image(arena, random);
            wire.bad = image.address() + random.nextInt(IMAGE_BYTES);
            // not beyond the image, where the outbox's own headers may lie: the kernel reads those always
            wire.badEnd = Math.min(wire.bad + 1 + random.nextInt(100_000), image.address() + IMAGE_BYTES);
            Outbox out = new Outbox(arena, wire);
            int replies = 1 + random.nextInt(600);
            long[] offsets = new long[replies];
            int[] lengths = new int[replies];
            for (int i = 0; i < replies; i++) {
                lengths[i] = 1 + random.nextInt(random.nextInt(10) == 0 ? IMAGE_BYTES : 8192);
                offsets[i] = random.nextInt(IMAGE_BYTES - lengths[i] + 1);
                reply(out, random, image, i, offsets[i], lengths[i]);
                if (random.nextInt(20) == 0) {
                    out.flush();
                }
            }
            out.flush();
            return check(wire, image, offsets, lengths);
        }
    }

    private static MemorySegment image(Arena arena, Random random) {
        byte[] bytes = new byte[IMAGE_BYTES];
        random.nextBytes(bytes);
        MemorySegment image = arena.allocate(IMAGE_BYTES);
        MemorySegment.copy(bytes, 0, image, JAVA_BYTE, 0, IMAGE_BYTES);
        return image;
    }

    private static void reply(Outbox out, Random random, MemorySegment image, int cookie, long offset, int length)
            throws IOException {
        boolean closing = length > Outbox.ATOMIC_BYTES;
        int piece = Math.max(512, random.nextInt(100) == 0 ? length / 3000 : length / 10);
        out.beginStructured(cookie);
        for (long at = offset; at < offset + length; at += piece) {
            long n = Math.min(piece, offset + length - at);
            out.dataChunk(!closing && at + n == offset + length, at, n);
            out.data(image.address() + at, n);
        }
        if (closing) {
            out.closing();
        }
        out.end();
    }

    /** Takes apart what was sent; returns the number of errors, each of which must be of a reply with missing bytes. */
    private static int check(FaultyWire wire, MemorySegment image, long[] offsets, int[] lengths) throws IOException {
        Set<Integer> failed = new HashSet<>();
        Set<Integer> done = new HashSet<>();
        long[] covered = new long[offsets.length];
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(wire.sent.toByteArray()));
        while (in.available() > 0) {
            assertThat(in.readInt()).isEqualTo(Nbd.STRUCTURED_REPLY_MAGIC);
            int flags = in.readUnsignedShort();
            int type = in.readUnsignedShort();
            int cookie = (int) in.readLong();
            byte[] data = in.readNBytes(in.readInt());
            boolean missing = image.address() + offsets[cookie] < wire.badEnd
                    && image.address() + offsets[cookie] + lengths[cookie] > wire.bad;
            if (type == Nbd.REPLY_TYPE_ERROR) {
                assertThat(missing)
                        .as("an error for a reply without missing bytes")
                        .isTrue();
                failed.add(cookie);
            } else if (type == Nbd.REPLY_TYPE_OFFSET_DATA) {
                covered[cookie] += data.length - 8;
                if (!missing) {
                    long at = Client.u64(data, 0);
                    assertThat(image.asSlice(at, data.length - 8)
                                    .mismatch(MemorySegment.ofArray(data).asSlice(8)))
                            .isEqualTo(-1);
                }
            } else {
                assertThat(type).isEqualTo(Nbd.REPLY_TYPE_NONE);
            }
            if ((flags & 1) != 0) {
                assertThat(done.add(cookie)).isTrue();
                assertThat(missing).isEqualTo(failed.contains(cookie));
                if (!missing) {
                    assertThat(covered[cookie]).isEqualTo(lengths[cookie]);
                }
            }
        }
        assertThat(done).hasSize(offsets.length);
        return failed.size();
    }

    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void simpleRepliesAreWholeOrErrorsOrTheEnd(boolean atomic) throws IOException {
        long seed = System.nanoTime();
        System.out.println("seed " + seed);
        Random random = new Random(seed);
        int hangUps = 0;
        for (int round = 0; round < 300; round++) {
            FaultyWire wire = new FaultyWire(random, atomic);
            try (Arena arena = Arena.ofConfined()) {
                MemorySegment image = image(arena, random);
                wire.bad = image.address() + random.nextInt(IMAGE_BYTES);
                wire.badEnd = wire.bad + 1;
                Outbox out = new Outbox(arena, wire);
                int largest = random.nextBoolean() ? Outbox.ATOMIC_BYTES : 100_000;
                long[] offsets = new long[100];
                int[] lengths = new int[100];
                boolean end = false;
                try {
                    for (int i = 0; i < 100; i++) {
                        lengths[i] = 1 + random.nextInt(largest);
                        offsets[i] = random.nextInt(IMAGE_BYTES - lengths[i]);
                        out.beginSimple(i);
                        out.data(image.address() + offsets[i], lengths[i]);
                        out.end();
                    }
                    out.flush();
                } catch (Disconnect e) {
                    end = true;
                    hangUps++;
                    assertThat(atomic && largest == Outbox.ATOMIC_BYTES)
                            .as("hung up where an error could have been told")
                            .isFalse();
                }
                checkSimple(wire, image, offsets, lengths, end);
            }
        }
        assertThat(hangUps).isGreaterThan(10);
    }

    private static void checkSimple(FaultyWire wire, MemorySegment image, long[] offsets, int[] lengths, boolean end)
            throws IOException {
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(wire.sent.toByteArray()));
        for (int i = 0; i < offsets.length; i++) {
            if (end && in.available() < 16) {
                return;
            }
            assertThat(in.readInt()).isEqualTo(Nbd.SIMPLE_REPLY_MAGIC);
            int error = in.readInt();
            assertThat(in.readLong()).isEqualTo(i);
            long start = image.address() + offsets[i];
            boolean missing = start <= wire.bad && start + lengths[i] > wire.bad;
            if (error != 0) {
                assertThat(error).isEqualTo(Nbd.EIO);
                assertThat(missing).isTrue();
                continue;
            }
            byte[] data = in.readNBytes(lengths[i]);
            if (data.length < lengths[i]) {
                assertThat(end).isTrue();
                return;
            }
            assertThat(missing).isFalse();
            assertThat(image.asSlice(offsets[i], lengths[i]).mismatch(MemorySegment.ofArray(data)))
                    .isEqualTo(-1);
        }
        assertThat(in.available()).isZero();
    }
}

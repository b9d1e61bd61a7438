// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static dev.erofsublk.nbd.Client.cat;
import static dev.erofsublk.nbd.Client.u32;
import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Every request of the transmission phase, well-formed and broken. */
class TransmissionTest {
    private static final int EPERM = 1;
    private static final int EINVAL = 22;

    @TempDir
    Path directory;

    private final List<String> log = Collections.synchronizedList(new ArrayList<>());
    private TestImage image;
    private NbdServer server;
    private Path socket;

    @BeforeEach
    void serve() throws IOException {
        image = TestImage.layers(directory);
        server = new NbdServer(image.exports(), Limits.DEFAULT, null, log::add);
        socket = directory.resolve("s");
        server.listen(socket);
    }

    @AfterEach
    void stop() {
        server.close();
        image.close();
        assertThat(log).noneMatch(line -> line.contains("defect") || line.contains("Exception"));
    }

    private byte[] content(long offset, int length) {
        return Arrays.copyOfRange(image.content, (int) offset, (int) offset + length);
    }

    @Test
    void readsOfAnyPlaceAndLengthGiveTheImagesBytes() throws IOException {
        long seed = System.nanoTime();
        System.out.println("seed " + seed);
        Random random = new Random(seed);
        try (Client structured = Client.structured(socket, "disk");
                Client simple = Client.simple(socket, "")) {
            for (int i = 0; i < 500; i++) {
                int offset = random.nextInt(image.content.length);
                int length = 1 + random.nextInt(random.nextBoolean() ? 4096 : image.content.length);
                length = Math.min(length, image.content.length - offset);
                byte[] expected = content(offset, length);
                assertThat(structured.readStructured(0, offset, length)).isEqualTo(expected);
                assertThat(structured.readStructured(4, offset, length)).isEqualTo(expected);
                assertThat(simple.readSimple(offset, length)).isEqualTo(expected);
            }
        }
    }

    @Test
    void holesAreNotSent() throws IOException {
        try (Client client = Client.structured(socket, "disk")) {
            client.request(0, 0, 1, 132 << 10, 100 << 10);
            Client.Chunk hole = client.chunk();
            assertThat(hole.type()).isEqualTo(2);
            assertThat(hole.isDone()).isTrue();
            assertThat(hole.u32(8)).isEqualTo(100 << 10);
        }
    }

    @Test
    void dontFragmentGivesOneChunkOfData() throws IOException {
        try (Client client = Client.structured(socket, "disk")) {
            client.request(4, 0, 1, 130 << 10, 32 << 10);
            Client.Chunk chunk = client.chunk();
            assertThat(chunk.type()).isEqualTo(1);
            assertThat(chunk.isDone()).isTrue();
            assertThat(Arrays.copyOfRange(chunk.data(), 8, chunk.data().length))
                    .isEqualTo(content(130 << 10, 32 << 10));
        }
    }

    @Test
    void manyRequestsAtOnceAreAllAnswered() throws IOException {
        try (Client client = Client.simple(socket, "disk")) {
            byte[] requests = new byte[0];
            for (int i = 0;
                    i < 3000;
                    i++) { // more than the buffer for requests, and than a batch of replies, has room for
                requests = cat(requests, Client.requestBytes(0, 0, i, 4096 + i, 512));
            }
            byte[] all = requests;
            Thread sender = Thread.ofPlatform().start(() -> {
                try {
                    client.send(all);
                } catch (IOException e) {
                    throw new IllegalStateException(e);
                }
            });
            boolean[] seen = new boolean[3000];
            for (int i = 0; i < 3000; i++) {
                byte[] header = client.read(16);
                int cookie = (int) Client.u64(header, 8);
                assertThat(seen[cookie]).isFalse();
                seen[cookie] = true;
                assertThat(client.read(512)).isEqualTo(content(4096 + cookie, 512));
            }
            assertThat(sender).satisfies(t -> t.join(10_000));
        }
    }

    @Test
    void requestsMayComeByteByByte() throws IOException {
        try (Client client = Client.simple(socket, "disk")) {
            for (byte b : Client.requestBytes(0, 0, 1, 0, 512)) {
                client.send(new byte[] {b});
            }
            assertThat(client.simpleReply(1)).isZero();
            assertThat(client.read(512)).isEqualTo(content(0, 512));
        }
    }

    @Test
    void requestsOutOfRangeAreInvalidAndHarmless() throws IOException {
        long size = image.content.length;
        long[][] ranges = {
            {size, 1},
            {size - 511, 512},
            {-1, 512},
            {Long.MIN_VALUE, 512},
            {Long.MAX_VALUE, 512},
            {0, 0},
            {0, 0xffffffffL},
            {0, size + 1},
            {size - 1, 0xffffffffL},
            {4096, 0}
        };
        try (Client simple = Client.simple(socket, "disk");
                Client structured = Client.structured(socket, "disk")) {
            for (long[] range : ranges) {
                simple.request(0, 0, 1, range[0], (int) range[1]);
                assertThat(simple.simpleReply(1)).isEqualTo(EINVAL);
                structured.request(0, 0, 1, range[0], (int) range[1]);
                Client.Chunk chunk = structured.chunk();
                assertThat(chunk.type()).isEqualTo(0x8001);
                assertThat(chunk.isDone()).isTrue();
                assertThat(chunk.u32(0)).isEqualTo(EINVAL);
                structured.request(0, 7, 1, range[0], (int) range[1]);
                assertThat(structured.chunk().u32(0)).isEqualTo(EINVAL);
                structured.request(0, 5, 1, range[0], (int) range[1]);
                assertThat(structured.simpleReply(1)).isEqualTo(EINVAL);
            }
            assertThat(simple.readSimple(0, 512)).isEqualTo(content(0, 512));
            assertThat(structured.readStructured(0, 0, 512)).isEqualTo(content(0, 512));
        }
    }

    @Test
    void unknownCommandsAndFlagsAreInvalidAndHarmless() throws IOException {
        try (Client client = Client.simple(socket, "disk")) {
            for (int type : new int[] {8, 9, 255, 65535}) {
                client.request(0, type, 1, 0, 512);
                assertThat(client.simpleReply(1)).isEqualTo(EINVAL);
            }
            for (int flags : new int[] {1, 2, 4, 8, 16, 0x8000, 0xffff}) { // DF too: no structured replies here
                client.request(flags, 0, 1, 0, 512);
                assertThat(client.simpleReply(1)).isEqualTo(EINVAL);
            }
            client.request(0, 7, 1, 0, 512); // block status, without having selected a context
            assertThat(client.simpleReply(1)).isEqualTo(EINVAL);
            assertThat(client.readSimple(0, 512)).isEqualTo(content(0, 512));
        }
    }

    @Test
    void everythingThatWritesIsNotPermitted() throws IOException {
        try (Client client = Client.simple(socket, "disk")) {
            client.request(0, 1, 1, 0, 512);
            client.send(new byte[512]);
            assertThat(client.simpleReply(1)).isEqualTo(EPERM);
            client.request(0, 4, 2, 0, 512);
            assertThat(client.simpleReply(2)).isEqualTo(EPERM);
            client.request(0, 6, 3, 0, 512);
            assertThat(client.simpleReply(3)).isEqualTo(EPERM);
            client.request(0, 1, 4, 0, 1 << 20);
            client.send(new byte[1 << 20]);
            assertThat(client.simpleReply(4)).isEqualTo(EPERM);
            assertThat(client.readSimple(0, 512)).isEqualTo(content(0, 512));
        }
    }

    @Test
    void aWriteBehindWaitingReadsLosesNoneOfThem() throws IOException {
        try (Client client = Client.simple(socket, "disk")) {
            byte[] batch = new byte[0];
            for (int i = 0; i < 10; i++) { // never read before: they wait
                batch = cat(batch, Client.requestBytes(0, 0, i, (300 << 10) + i * (70L << 10), 512));
            }
            client.send(cat(batch, Client.requestBytes(0, 1, 10, 0, 200_000), new byte[200_000]));
            boolean[] seen = new boolean[11];
            for (int i = 0; i < 11; i++) {
                byte[] header = client.read(16);
                int cookie = (int) Client.u64(header, 8);
                seen[cookie] = true;
                if (cookie < 10) {
                    assertThat(client.read(512)).isEqualTo(content((300 << 10) + cookie * (70L << 10), 512));
                }
            }
            assertThat(seen).doesNotContain(false);
        }
    }

    @Test
    void aWriteOfMoreThanTwiceTheMaximumEndsTheConnection() throws IOException {
        try (Client client = Client.simple(socket, "disk")) {
            client.request(0, 1, 1, 0, (64 << 20) + 1);
            assertThat(client.finish()).hasSizeLessThanOrEqualTo(16);
        }
    }

    @Test
    void flushAndCacheSucceed() throws IOException {
        try (Client client = Client.simple(socket, "disk")) {
            client.request(0, 3, 1, 0, 0);
            assertThat(client.simpleReply(1)).isZero();
            client.request(0, 3, 1, 4096, 0);
            assertThat(client.simpleReply(1)).isEqualTo(EINVAL);
            client.request(0, 5, 2, 0, image.content.length);
            assertThat(client.simpleReply(2)).isZero();
        }
    }

    @Test
    void disconnectAnswersWhatCameBeforeAndNothingBehind() throws IOException {
        try (Client client = Client.simple(socket, "disk")) {
            client.send(
                    Client.requestBytes(0, 0, 1, 300 << 10, 512),
                    Client.requestBytes(0, 2, 2, 0, 0),
                    Client.requestBytes(0, 0, 3, 0, 512));
            assertThat(client.simpleReply(1)).isZero();
            assertThat(client.read(512)).isEqualTo(content(300 << 10, 512));
            assertThat(client.isHungUp()).isTrue();
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 0x25609512, 0x67446698, -1})
    void aWrongMagicEndsTheConnection(int magic) throws IOException {
        try (Client client = Client.simple(socket, "disk")) {
            client.send(u32(magic), new byte[24]);
            assertThat(client.isHungUp()).isTrue();
        }
    }

    @Test
    void theAllocationMapIsTheExtentMap() throws IOException {
        try (Client client = Client.structured(socket, "disk")) {
            client.request(0, 7, 1, 0, image.content.length);
            Client.Chunk chunk = client.chunk();
            assertThat(chunk.type()).isEqualTo(5);
            assertThat(chunk.isDone()).isTrue();
            assertThat(chunk.u32(0)).isEqualTo(1);
            int at = 0;
            int last = -1;
            for (int i = 4; i < chunk.data().length; i += 8) {
                int length = chunk.u32(i);
                int flags = chunk.u32(i + 4);
                assertThat(flags).isNotEqualTo(last).isIn(0, 3);
                var extent = image.image().extent(image.image().indexOf(at));
                assertThat(flags == 3).isEqualTo(extent.source() == dev.erofsublk.composer.Zeros.INSTANCE);
                last = flags;
                at += length;
            }
            assertThat(at).isEqualTo(image.content.length);
            assertThat(chunk.data()).hasSize(4 + 8 * (2 + 2 + 80 - 0));
        }
    }

    @Test
    void oneExtentIsToldToAClientThatWantsOne() throws IOException {
        try (Client client = Client.structured(socket, "disk")) {
            client.request(8, 7, 1, 140 << 10, 1 << 20);
            Client.Chunk chunk = client.chunk();
            assertThat(chunk.data()).isEqualTo(cat(u32(1), u32(92 << 10), u32(3)));
            client.request(0, 7, 2, 140 << 10, 512);
            assertThat(client.chunk().data()).isEqualTo(cat(u32(1), u32(512), u32(3)));
        }
    }
}

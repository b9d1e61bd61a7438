// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static dev.erofsublk.nbd.Client.cat;
import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Decoded;
import dev.erofsublk.composer.FlatImage;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.MemorySegment;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Bytes that are no longer there when a client asks, or are only made then. */
class MissingBytesTest {
    private static final int SIZE = 4 << 20;
    private static final int KEPT = 1 << 20;

    @TempDir
    Path directory;

    private final List<String> log = Collections.synchronizedList(new ArrayList<>());

    private static void truncate(Path file) throws IOException {
        try (RandomAccessFile f = new RandomAccessFile(file.toFile(), "rw")) {
            f.setLength(KEPT);
        }
    }

    /** Warm means that the range has been read before, so that nothing but the sending itself can find it gone. */
    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void aTruncatedFileGivesErrorsForItsRequestsOnlyToAStructuredClient(boolean warm) throws IOException {
        for (boolean tcp : new boolean[] {false, true}) {
            Path at = Files.createDirectory(directory.resolve(tcp ? "tcp" : "unix"));
            try (TestImage image = TestImage.file(at, SIZE);
                    NbdServer server = new NbdServer(image.exports(), Limits.DEFAULT, null, log::add);
                    Client client = connect(server, at, tcp)) {
                client.greet(3);
                client.option(8);
                client.reply();
                client.go("disk");
                if (warm) {
                    assertThat(client.readStructured(0, 0, SIZE)).isEqualTo(image.content);
                }
                truncate(image.file);
                for (int length : new int[] {512, 4096, 32 << 10, (32 << 10) + 512, 256 << 10, 2 << 20}) {
                    assertThat(client.readStructured(0, SIZE - length, length)).isNull();
                    assertThat(client.readStructured(4, SIZE - length, length)).isNull();
                    assertThat(client.readStructured(0, KEPT - length / 2, length))
                            .isNull();
                    int good = Math.min(length, KEPT);
                    assertThat(client.readStructured(0, KEPT - good, good))
                            .isEqualTo(Arrays.copyOfRange(image.content, KEPT - good, KEPT));
                }
                client.send(batch()); // one bad request among many good ones
                int errors = 0;
                for (int i = 0; i < 101; i++) {
                    Client.Chunk chunk = client.chunk();
                    assertThat(chunk.isDone()).isTrue();
                    assertThat(chunk.type()).isEqualTo(chunk.cookie() == 50 ? 0x8001 : 1);
                    errors += chunk.type() == 1 ? 0 : 1;
                }
                assertThat(errors).isEqualTo(1);
            }
        }
        assertThat(log).isEmpty();
    }

    private static byte[] batch() {
        byte[] batch = new byte[0];
        for (int i = 0; i < 101; i++) {
            batch = cat(batch, Client.requestBytes(0, 0, i, i == 50 ? KEPT - 2048 : i * 4096L, 4096));
        }
        return batch;
    }

    private Client connect(NbdServer server, Path at, boolean tcp) throws IOException {
        if (tcp) {
            return Client.connect(server.listen(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0)));
        }
        server.listen(at.resolve("s"));
        return Client.connect(at.resolve("s"));
    }

    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void aTruncatedFileGivesErrorsToASimpleClient(boolean warm) throws IOException {
        try (TestImage image = TestImage.file(directory, SIZE);
                NbdServer server = new NbdServer(image.exports(), Limits.DEFAULT, null, log::add)) {
            server.listen(directory.resolve("s"));
            try (Client client = Client.simple(directory.resolve("s"), "disk")) {
                if (warm) {
                    assertThat(client.readSimple(0, SIZE)).isEqualTo(image.content);
                }
                truncate(image.file);
                for (int length : new int[] {512, 4096, 32 << 10, 256 << 10, 2 << 20}) {
                    assertThat(client.readSimple(SIZE - length, length)).isNull();
                    assertThat(client.readSimple(KEPT - length / 2, length)).isNull();
                }
                assertThat(client.readSimple(0, KEPT)).isEqualTo(Arrays.copyOf(image.content, KEPT));
            }
        }
        assertThat(log).isEmpty();
    }

    /** Decodes by copying from an array; one unit is damaged. */
    private static final class Units implements Decoded {
        private static final int UNIT = 16 << 10;
        private final Blob cache;
        private final byte[] content;
        private final int damaged;
        private final BitSet present = new BitSet();

        Units(Path file, byte[] content, int damaged) throws IOException {
            try (RandomAccessFile f = new RandomAccessFile(file.toFile(), "rw")) {
                f.setLength(content.length);
            }
            cache = Blob.open(file);
            this.content = content;
            this.damaged = damaged;
        }

        @Override
        public Blob cache() {
            return cache;
        }

        @Override
        public int unit() {
            return UNIT;
        }

        @Override
        public synchronized boolean present(long offset, long length) {
            int first = (int) (offset / UNIT);
            return present.nextClearBit(first) * (long) UNIT >= offset + length;
        }

        @Override
        public synchronized void ensure(long offset, long length) throws IOException {
            for (int unit = (int) (offset / UNIT); (long) unit * UNIT < offset + length; unit++) {
                if (unit == damaged) {
                    throw new IOException("unit " + unit + " is damaged");
                }
                try (RandomAccessFile f = new RandomAccessFile(cache.path().toFile(), "rw")) {
                    f.seek((long) unit * UNIT);
                    f.write(content, unit * UNIT, Math.min(UNIT, content.length - unit * UNIT));
                }
                present.set(unit);
            }
        }

        @Override
        public String name() {
            return "units";
        }

        @Override
        public long size() {
            return content.length;
        }

        @Override
        public void read(long offset, MemorySegment target) throws IOException {
            ensure(offset, target.byteSize());
            cache.read(offset, target);
        }

        @Override
        public void close() {
            cache.close();
        }
    }

    @Test
    void whatHasToBeDecodedIsDecodedBeforeItIsSent() throws IOException {
        byte[] content = new byte[SIZE];
        new Random(5).nextBytes(content);
        int damaged = 33;
        Units units = new Units(directory.resolve("cache"), content, damaged);
        try (FlatImage image = FlatImage.builder(4096).append(SIZE, units, 0).build();
                AddressSpace space = AddressSpace.map(image);
                NbdServer server = new NbdServer(
                        new Exports(List.of(new Export("disk", "", space))), Limits.DEFAULT, null, log::add)) {
            server.listen(directory.resolve("s"));
            try (Client client = Client.structured(directory.resolve("s"), "disk")) {
                assertThat(client.readStructured(0, 100_000, 512))
                        .isEqualTo(Arrays.copyOfRange(content, 100_000, 100_512));
                assertThat(units.present(2 << 20, 512)).isFalse();
                assertThat(client.readStructured(0, damaged * 16384L, 512)).isNull();
                int beside = (damaged + 1) * 16384;
                assertThat(client.readStructured(0, beside, 512))
                        .isEqualTo(Arrays.copyOfRange(content, beside, beside + 512));
                assertThat(client.readStructured(0, 1 << 20, 3 << 20))
                        .isEqualTo(Arrays.copyOfRange(content, 1 << 20, SIZE));
            }
        }
        assertThat(log).isEmpty();
    }
}

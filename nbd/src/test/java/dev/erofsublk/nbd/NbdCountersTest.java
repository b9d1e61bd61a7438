// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(60)
class NbdCountersTest {
    private static final int SIZE = 1 << 20;

    @TempDir
    Path directory;

    @Test
    void readsOfAllConnectionsAreCountedAndWhereBytesWereMissing() throws Exception {
        Path socket = directory.resolve("s");
        try (TestImage image = TestImage.file(directory, SIZE)) {
            Export export = image.export("disk");
            try (NbdServer server = new NbdServer(new Exports(List.of(export)), Limits.DEFAULT, null, line -> {})) {
                server.listen(socket);
                try (Client simple = Client.simple(socket, "disk");
                        Client structured = Client.structured(socket, "disk")) {
                    simple.readSimple(0, 512);
                    structured.readStructured(0, 4096, 65536);
                    awaitReads(export, 2);
                    assertThat(export.counters()).isEqualTo(new NbdCounters(2, 512 + 65536, 0, -1, 2));
                }
                assertThat(export.residentBytes()).isEqualTo(2 * 65536);
                truncate(image.file);
                for (int length : new int[] {4096, 65536}) { // found while sending, and before
                    try (Client client = Client.simple(socket, "disk")) {
                        client.request(0, 0, 1, SIZE - 2 * length, length);
                        assertThat(client.read(16)).startsWith(0x67, 0x44, 0x66, 0x98, 0, 0, 0, Nbd.EIO);
                        awaitReads(export, length == 4096 ? 3 : 4);
                        assertThat(export.counters().lastErrorOffset()).isEqualTo(SIZE - 2L * length);
                    }
                }
                assertThat(export.counters().errors()).isEqualTo(2);
            }
            assertThat(export.counters().reads())
                    .as("after the last connection")
                    .isEqualTo(4);
        }
    }

    private static void truncate(Path file) throws IOException {
        try (RandomAccessFile f = new RandomAccessFile(file.toFile(), "rw")) {
            f.setLength(4096);
        }
    }

    /** A connection counts when it has sent its replies. */
    private static void awaitReads(Export export, int reads) throws InterruptedException {
        while (export.counters().reads() < reads) {
            Thread.sleep(1);
        }
    }
}

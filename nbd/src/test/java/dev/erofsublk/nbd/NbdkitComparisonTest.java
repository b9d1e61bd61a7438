// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static dev.erofsublk.nbd.Client.cat;
import static dev.erofsublk.nbd.Client.contexts;
import static dev.erofsublk.nbd.Client.optionBytes;
import static dev.erofsublk.nbd.Client.requestBytes;
import static dev.erofsublk.nbd.Client.string;
import static dev.erofsublk.nbd.Client.u16;
import static dev.erofsublk.nbd.Client.u32;
import static dev.erofsublk.nbd.Client.u64;
import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The same bytes to nbdkit, where the specification leaves no choice: the same answers have to come back. */
class NbdkitComparisonTest {
    private static final int SIZE = 1 << 20;

    @TempDir
    Path directory;

    private final List<String> log = Collections.synchronizedList(new ArrayList<>());
    private TestImage image;
    private NbdServer server;
    private Process nbdkit;

    @BeforeEach
    void serveBoth() throws Exception {
        Tool.assume("nbdkit");
        image = TestImage.file(directory, SIZE);
        server = new NbdServer(new Exports(List.of(new Export("", "", image.space))), Limits.DEFAULT, null, log::add);
        server.listen(directory.resolve("ours"));
        Path theirs = directory.resolve("theirs");
        // One thread answers in order, as we do
        nbdkit = new ProcessBuilder(
                        "nbdkit", "-f", "-r", "-t", "1", "-U", theirs.toString(), "file", image.file.toString())
                .redirectErrorStream(true)
                .redirectOutput(directory.resolve("nbdkit.log").toFile())
                .start();
        while (!Files.exists(theirs)) {
            assertThat(nbdkit.isAlive()).isTrue();
            Thread.sleep(10);
        }
    }

    @AfterEach
    void stopBoth() throws Exception {
        if (nbdkit != null) {
            nbdkit.destroy();
            assertThat(nbdkit.waitFor(10, TimeUnit.SECONDS)).isTrue();
            server.close();
            image.close();
        }
    }

    private void compare(String what, byte[]... session) throws IOException {
        byte[] bytes = cat(session);
        assertThat(talk("ours", bytes)).as(what).isEqualTo(talk("theirs", bytes));
    }

    /** Sends a session and puts the answers into words: kinds, errors and data, but not the texts of errors. */
    private List<String> talk(String socket, byte[] session) throws IOException {
        try (Client client = Client.connect(UnixDomainSocketAddress.of(directory.resolve(socket)))) {
            byte[] answer;
            try {
                client.send(session);
                answer = client.finish();
            } catch (IOException e) {
                return List.of("hung up");
            }
            return words(ByteBuffer.wrap(answer));
        }
    }

    private static List<String> words(ByteBuffer answer) {
        List<String> words = new ArrayList<>();
        Map<Long, String> replies = new TreeMap<>(); // the order of replies is the server's choice
        answer.position(18); // the greeting
        while (answer.remaining() >= 16) {
            int start = answer.position();
            if (answer.getLong(start) == Nbd.OPTION_REPLY_MAGIC) {
                int type = answer.getInt(start + 12);
                byte[] data = new byte[answer.getInt(start + 16)];
                answer.position(start + 20).get(data);
                if (type == Nbd.REP_INFO) { // flags say what a server can do: only size and existence are compared
                    words.add("info " + data[1] + " " + (data[1] == 0 ? Client.u64(data, 2) : ""));
                } else {
                    words.add("option " + answer.getInt(start + 8) + " reply " + type
                            + (type < 0 ? "" : Arrays.toString(data)));
                }
            } else if (answer.getInt(start) == Nbd.SIMPLE_REPLY_MAGIC) {
                int error = answer.getInt(start + 4);
                long cookie = answer.getLong(start + 8);
                byte[] data = new byte[error == 0 ? (int) (cookie & 0xffff) : 0]; // cookies tell the length of reads
                answer.position(start + 16).get(data);
                replies.merge(cookie, "simple " + error + " " + Arrays.hashCode(data), String::concat);
            } else if (answer.getInt(start) == Nbd.STRUCTURED_REPLY_MAGIC) {
                int type = answer.getShort(start + 6) & 0xffff;
                byte[] data = new byte[answer.getInt(start + 16)];
                answer.position(start + 20).get(data);
                String text = "chunk " + answer.getShort(start + 4) + " " + type + " "
                        + (type == Nbd.REPLY_TYPE_ERROR ? Client.u32(data, 0) : Arrays.hashCode(data));
                replies.merge(answer.getLong(start + 8), text, String::concat);
            } else {
                words.add("export " + answer.getLong() + " and " + (answer.remaining() - 2) + " bytes");
                answer.position(answer.limit());
            }
        }
        words.addAll(replies.values());
        return words;
    }

    private static final byte[] GO = optionBytes(7, string(""), u16(0));

    @Test
    @DisplayName("the handshake")
    void handshake() throws IOException {
        compare("nothing");
        compare("half of the flags", new byte[2]);
        compare("an unknown client flag", u32(7));
        compare("abort", u32(3), optionBytes(2));
        compare("an unknown option, then list", u32(3), optionBytes(77, new byte[9]), optionBytes(3));
        compare("list with data", u32(3), optionBytes(3, new byte[4]), GO);
        compare("structured replies with data", u32(3), optionBytes(8, new byte[1]), GO);
        compare("extended headers", u32(3), optionBytes(11), GO);
        compare("a name of 4 GiB", u32(3), optionBytes(7, u32(-1), u16(0)), GO);
        compare("a name of 5000 bytes that are not there", u32(3), optionBytes(7, u32(5000), u16(0)), GO);
        compare("an empty GO", u32(3), optionBytes(7), GO);
        compare("a GO without the list of its requests", u32(3), optionBytes(7, string(""), u16(2), u16(1)), GO);
        compare("an option of 4 GiB", u32(3), u64(0x49484156454f5054L), u32(3), u32(-1));
        compare("a wrong magic", u32(3), u64(1), u32(3), u32(0));
        compare("contexts before structured replies", u32(3), optionBytes(10, contexts("", "base:allocation")), GO);
        compare(
                "contexts whose query does not fit",
                u32(3),
                optionBytes(8),
                optionBytes(10, string(""), u32(1), u32(1000)),
                GO);
        compare(
                "contexts, listed and set",
                u32(3),
                optionBytes(8),
                optionBytes(9, contexts("")),
                optionBytes(9, contexts("", "base:allocation")),
                optionBytes(9, contexts("", "other:x")),
                optionBytes(10, contexts("", "base:allocation")),
                GO);
        compare("export name with zeroes", u32(1), optionBytes(1));
        compare("export name without", u32(3), optionBytes(1));
    }

    @Test
    @DisplayName("the transmission")
    void transmission() throws IOException {
        for (boolean structured : new boolean[] {false, true}) {
            byte[] start = cat(u32(3), structured ? optionBytes(8) : new byte[0], GO);
            String with = structured ? ", structured" : ", simple";
            compare("reads" + with, start, requestBytes(0, 0, 4096, 0, 4096), requestBytes(0, 0, 0x10200, 77, 512));
            compare(
                    "a read past the end" + with,
                    start,
                    requestBytes(0, 0, 1, SIZE, 512),
                    requestBytes(0, 0, 512, 0, 512));
            compare("a read across the end" + with, start, requestBytes(0, 0, 1, SIZE - 1, 512));
            compare("a read at 2^64 - 1" + with, start, requestBytes(0, 0, 1, -1, 512));
            compare("a read of 2^32 - 1 bytes" + with, start, requestBytes(0, 0, 1, 0, -1));
            compare("a read of nothing" + with, start, requestBytes(0, 0, 1, 0, 0));
            compare("an unknown flag" + with, start, requestBytes(0x80, 0, 1, 0, 512));
            compare("a flush" + with, start, requestBytes(0, 3, 0, 0, 0), requestBytes(0, 3, 1, 1, 0));
            compare("a wrong magic" + with, start, u32(0), new byte[24]);
            compare("a disconnect" + with, start, requestBytes(0, 2, 0, 0, 0));
        }
        byte[] start = cat(u32(3), GO);
        compare("don't fragment without structured replies", start, requestBytes(4, 0, 1, 0, 512));
        compare("block status without a context", start, requestBytes(0, 7, 1, 0, 512));
        compare("an unknown command", start, requestBytes(0, 42, 1, 0, 512), requestBytes(0, 0, 512, 0, 512));
        compare(
                "writing",
                start,
                requestBytes(0, 1, 1, 0, 512),
                new byte[512],
                requestBytes(0, 4, 2, 0, 512),
                requestBytes(0, 6, 3, 0, 512));
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.Zeros;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The clients that people have: libnbd's, qemu's, fio. */
class ClientToolsTest {
    @TempDir
    Path directory;

    private final List<String> log = Collections.synchronizedList(new ArrayList<>());
    private TestImage image;
    private NbdServer server;
    private Path raw;
    private String uri;

    @BeforeEach
    void serve() throws Exception {
        image = TestImage.layers(directory);
        server = new NbdServer(image.exports(), Limits.DEFAULT, null, log::add);
        server.listen(directory.resolve("s"));
        raw = Files.write(directory.resolve("expected.raw"), image.content);
        uri = "nbd+unix:///disk?socket=" + directory.resolve("s");
    }

    @AfterEach
    void stop() {
        server.close();
        image.close();
        assertThat(log).isEmpty();
    }

    @Test
    void nbdinfoTellsWhatIsServed() throws Exception {
        Tool.assume("nbdinfo");
        String json = Tool.run("nbdinfo", "--json", uri).replaceAll("\\s", "");
        assertThat(json)
                .contains("\"protocol\":\"newstyle-fixed\"")
                .contains("\"structured\":true")
                .contains("\"export-name\":\"disk\"")
                .contains("\"description\":\"aboutdisk\"")
                .contains("\"export-size\":" + image.content.length)
                .contains("\"is_read_only\":true")
                .contains("\"can_multi_conn\":true")
                .contains("\"can_cache\":true")
                .contains("\"can_df\":true")
                .contains("\"block_size_minimum\":1,")
                .contains("\"block_size_maximum\":33554432")
                .contains("\"base:allocation\"");
        assertThat(Tool.run("nbdinfo", "--size", uri).strip()).isEqualTo("" + image.content.length);
        assertThat(Tool.run("nbdinfo", "--list", uri))
                .contains("export=\"disk\"")
                .contains("export=\"other\"");
    }

    @Test
    void nbdinfoMapsTheExtents() throws Exception {
        Tool.assume("nbdinfo");
        Matcher line =
                Pattern.compile("(?m)^\\s*(\\d+)\\s+(\\d+)\\s+(\\d+)\\s").matcher(Tool.run("nbdinfo", "--map", uri));
        long at = 0;
        int lines = 0;
        for (; line.find(); lines++) {
            assertThat(Long.parseLong(line.group(1))).isEqualTo(at);
            long end = at + Long.parseLong(line.group(2));
            boolean hole = line.group(3).equals("3");
            while (at < end) {
                var extent = image.image().extent(image.image().indexOf(at));
                assertThat(extent.source() == Zeros.INSTANCE).as("at " + at).isEqualTo(hole);
                at = extent.end();
            }
            assertThat(at).as("an extent ends where the map says").isEqualTo(end);
        }
        assertThat(at).isEqualTo(image.content.length);
        assertThat(lines).isEqualTo(84);
    }

    @Test
    void nbdcopyWithFourConnectionsCopiesIt() throws Exception {
        Tool.assume("nbdcopy");
        Path copy = directory.resolve("copy.raw");
        Tool.run("nbdcopy", "--connections=4", "--requests=16", "--request-size=65536", uri, copy);
        assertThat(Files.mismatch(raw, copy)).isEqualTo(-1);
    }

    @Test
    void qemuImgFindsItIdentical() throws Exception {
        Tool.assume("qemu-img");
        assertThat(Tool.run("qemu-img", "compare", "-f", "raw", "-F", "raw", raw, uri))
                .contains("identical");
        Path converted = directory.resolve("converted.raw");
        Tool.run("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, converted);
        assertThat(Files.mismatch(raw, converted)).isEqualTo(-1);
        assertThat(Tool.run("qemu-img", "map", "--output=json", uri)).contains("\"zero\": true");
    }

    @Test
    void qemuIoReadsHolesAsZerosAndMayNotWrite() throws Exception {
        Tool.assume("qemu-io");
        assertThat(Tool.run(
                        "qemu-io",
                        "-r",
                        "-f",
                        "raw",
                        "-c",
                        "read -P 0 132k 100k",
                        "-c",
                        "aio_read 0 1M",
                        "-c",
                        "aio_flush",
                        uri))
                .contains("read 102400/102400")
                .doesNotContain("failed");
        assertThat(Tool.attempt("qemu-io", "-r", "-f", "raw", "-c", "read -P 0 0 4k", uri)
                        .output())
                .contains("Pattern verification failed");
        assertThat(Tool.attempt("qemu-io", "-f", "raw", "-c", "write 0 4k", uri).status())
                .isNotZero();
    }

    @Test
    void fioReadsWithManyRequestsInFlight() throws Exception {
        Tool.assume("fio");
        String json = Tool.run(
                "fio",
                "--name=x",
                "--ioengine=nbd",
                "--uri=" + uri,
                "--rw=randread",
                "--bssplit=512/20:4k/40:64k/40",
                "--iodepth=32",
                "--size=" + image.content.length / 65536 * 65536,
                "--time_based",
                "--runtime=1",
                "--output-format=json");
        assertThat(json).contains("\"error\" : 0");
        Matcher total = Pattern.compile("\"total_ios\" : (\\d+)").matcher(json);
        assertThat(total.find()).isTrue();
        assertThat(Long.parseLong(total.group(1))).isGreaterThan(1000);
    }
}

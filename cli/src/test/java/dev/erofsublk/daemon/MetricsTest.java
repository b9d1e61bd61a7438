// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.entry;

import dev.erofsublk.daemon.Metrics.Sample;
import dev.erofsublk.ublk.DeviceCounters;
import dev.erofsublk.ublk.DeviceState;
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What a scraper gets, read back by a parser of the text format (prometheus.io/docs/instrumenting/exposition_formats). */
@Timeout(60)
class MetricsTest {
    private static final List<Long> MICROS = micros(3, 0, 5, 0, 2);

    private static final Sample ONE = new Sample(
            "ublkb0",
            "--image \"/a\\b\nc\"",
            "erofs",
            2,
            128,
            1 << 20,
            65536,
            new DeviceCounters(7, 4096, 1, 512, 3, MICROS, 1_500_000_000L),
            DeviceState.LIVE);
    private static final Sample OTHER =
            new Sample("ublkb12", "x", "raw", 1, 64, 8192, 8192, new DeviceCounters(0, 0, 0, -1, 0, micros(), 0), null);

    /** Buckets of which the first and the last few are given; the last is what took longer than all bounds. */
    private static List<Long> micros(long... first) {
        List<Long> buckets = new ArrayList<>();
        for (int i = 0; i < 23; i++) {
            buckets.add(i < first.length ? first[i] : 0);
        }
        buckets.add(1L);
        return buckets;
    }

    @Test
    void everyNumberOfADeviceIsInTheTextUnderItsName() throws Exception {
        Map<String, Double> values = scrape(List.of(ONE, OTHER), 5);
        assertThat(values)
                .contains(
                        entry("erofs_ublk_takeovers_total", 5.0),
                        entry("erofs_ublk_devices", 2.0),
                        entry("erofs_ublk_device_requests_total{device=\"ublkb0\"}", 7.0),
                        entry("erofs_ublk_device_requests_total{device=\"ublkb12\"}", 0.0),
                        entry("erofs_ublk_device_read_bytes_total{device=\"ublkb0\"}", 4096.0),
                        entry("erofs_ublk_device_errors_total{device=\"ublkb0\"}", 1.0),
                        entry("erofs_ublk_device_cold_reads_total{device=\"ublkb0\"}", 3.0),
                        entry("erofs_ublk_device_size_bytes{device=\"ublkb0\"}", 1048576.0),
                        entry("erofs_ublk_device_resident_bytes{device=\"ublkb0\"}", 65536.0),
                        entry(state("ublkb0", "LIVE"), 1.0),
                        entry(state("ublkb0", "QUIESCED"), 0.0),
                        entry(state("ublkb12", "LIVE"), 0.0),
                        entry(
                                "erofs_ublk_device_info{depth=\"128\",device=\"ublkb0\",format=\"erofs\",queues=\"2\","
                                        + "source=\"--image \\\"/a\\\\b\\nc\\\"\"}",
                                1.0));
        assertThat(values.keySet()).anyMatch(name -> name.startsWith("erofs_ublk_build_info{java=\""));
    }

    private static String state(String device, String state) {
        return "erofs_ublk_device_state{device=\"%s\",erofs_ublk_device_state=\"%s\"}".formatted(device, state);
    }

    @Test
    void theHistogramIsCumulativeAndEndsWithAllOfThem() throws Exception {
        Map<String, Double> values = scrape(List.of(ONE), 0);
        String name = "erofs_ublk_device_request_duration_seconds";
        List<Double> counts = new ArrayList<>();
        values.forEach((key, value) -> {
            if (key.startsWith(name + "_bucket{")) {
                counts.add(value);
            }
        });
        assertThat(counts).hasSize(MICROS.size()).isSorted();
        assertThat(values)
                .contains(
                        entry(name + "_bucket{device=\"ublkb0\",le=\"1.0E-6\"}", 3.0),
                        entry(name + "_bucket{device=\"ublkb0\",le=\"4.0E-6\"}", 8.0),
                        entry(name + "_bucket{device=\"ublkb0\",le=\"4.194304\"}", 10.0),
                        entry(name + "_bucket{device=\"ublkb0\",le=\"+Inf\"}", 11.0),
                        entry(name + "_count{device=\"ublkb0\"}", 11.0),
                        entry(name + "_sum{device=\"ublkb0\"}", 1.5));
    }

    @Test
    void withoutDevicesThereIsOnlyTheDaemon() throws Exception {
        assertThat(scrape(List.of(), 0).keySet()).hasSize(3).noneMatch(name -> name.contains("device_"));
    }

    @Test
    void nothingElseIsAnsweredAndAnAskerOfOpenMetricsGetsIt() throws Exception {
        try (MetricsServer server = serve(List.of(ONE), 0)) {
            assertThat(get(server, "/", "GET", null).getResponseCode()).isEqualTo(404);
            assertThat(get(server, "/metrics/x", "GET", null).getResponseCode()).isEqualTo(404);
            assertThat(get(server, "/metrics", "DELETE", null).getResponseCode())
                    .isEqualTo(405);
            HttpURLConnection open = get(server, "/metrics", "GET", "application/openmetrics-text; version=1.0.0");
            assertThat(open.getContentType()).startsWith("application/openmetrics-text");
            assertThat(body(open)).endsWith("# EOF\n");
        }
    }

    @Test
    void anAddressThatIsTakenIsUsedOnceItIsFree() throws Exception {
        int port;
        try (ServerSocket taken = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            port = taken.getLocalPort();
            MetricsServer.start(
                    new InetSocketAddress(InetAddress.getLoopbackAddress(), port), () -> Metrics.of(List.of(), 3));
        }
        for (int tries = 0; ; tries++) {
            try {
                HttpURLConnection connection = (HttpURLConnection) URI.create("http://127.0.0.1:" + port + "/metrics")
                        .toURL()
                        .openConnection();
                assertThat(body(connection)).contains("erofs_ublk_takeovers_total 3.0\n");
                return;
            } catch (java.net.ConnectException e) {
                assertThat(tries).as("tries of 50 ms").isLessThan(600);
                Thread.sleep(50);
            }
        }
    }

    private static MetricsServer serve(List<Sample> devices, long takeovers) throws IOException {
        return MetricsServer.open(
                new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), () -> Metrics.of(devices, takeovers));
    }

    private static Map<String, Double> scrape(List<Sample> devices, long takeovers) throws IOException {
        try (MetricsServer server = serve(devices, takeovers)) {
            HttpURLConnection connection = get(server, "/metrics", "GET", null);
            assertThat(connection.getContentType()).startsWith("text/plain; version=0.0.4");
            return parse(body(connection));
        }
    }

    private static HttpURLConnection get(MetricsServer server, String path, String method, String accept)
            throws IOException {
        HttpURLConnection connection = (HttpURLConnection)
                URI.create("http://127.0.0.1:" + server.port() + path).toURL().openConnection();
        connection.setRequestMethod(method);
        if (accept != null) {
            connection.setRequestProperty("Accept", accept);
        }
        return connection;
    }

    private static String body(HttpURLConnection connection) throws IOException {
        return new String(connection.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    }

    private static final Pattern TYPE = Pattern.compile("# TYPE ([a-z_]+) (counter|gauge|histogram)");
    private static final String LABEL = "[a-z_]+=\"(?:[^\"\\\\\n]|\\\\[\\\\n\"])*\"";
    private static final Pattern VALUE =
            Pattern.compile("([a-z_]+)(\\{" + LABEL + "(?:," + LABEL + ")*\\})? ([-+.0-9E]+|\\+Inf|NaN)");

    /** Values by name and labels; fails on a line that is not of the format, a doubled one, or one without a type. */
    static Map<String, Double> parse(String text) {
        assertThat(text).endsWith("\n");
        Map<String, String> types = new LinkedHashMap<>();
        Map<String, Double> values = new LinkedHashMap<>();
        for (String line : text.substring(0, text.length() - 1).split("\n")) {
            Matcher type = TYPE.matcher(line);
            Matcher value = VALUE.matcher(line);
            if (type.matches()) {
                assertThat(types.put(type.group(1), type.group(2))).as(line).isNull();
            } else if (!line.startsWith("# HELP ")) {
                assertThat(value.matches()).as(line).isTrue();
                String name = value.group(1);
                assertThat(types.keySet())
                        .as(line)
                        .anyMatch(known -> name.equals(known) || name.matches(known + "_(bucket|sum|count)"));
                String labels = value.group(2) == null ? "" : value.group(2);
                assertThat(values.put(name + labels, Double.valueOf(value.group(3))))
                        .as(line)
                        .isNull();
            }
        }
        return values;
    }
}

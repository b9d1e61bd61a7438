// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import io.prometheus.metrics.expositionformats.ExpositionFormatWriter;
import io.prometheus.metrics.expositionformats.ExpositionFormats;
import io.prometheus.metrics.model.snapshots.MetricSnapshots;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.net.BindException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;
import java.util.function.Supplier;

/**
 * Answers {@code GET /metrics}, in the text format of Prometheus or OpenMetrics as the asker prefers, and nothing else.
 *
 * <p>What is served matters more than who counts it: an address that is taken, perhaps still by the daemon before this
 * one, is tried again every second.
 */
final class MetricsServer implements AutoCloseable {
    private static final long RETRY_MILLIS = 1000;
    private static final int THREADS = 2;

    static {
        // The JDK's server waits for ever for a peer that stops in the middle (jdk.httpserver, module summary).
        System.setProperty("sun.net.httpserver.maxReqTime", "10");
        System.setProperty("sun.net.httpserver.maxRspTime", "10");
        System.setProperty("jdk.httpserver.maxConnections", "16");
    }

    private final HttpServer server;

    private MetricsServer(HttpServer server) {
        this.server = server;
    }

    /** Listens for as long as the process lives, from when {@code address} is free. */
    static void start(InetSocketAddress address, Supplier<MetricSnapshots> metrics) {
        Thread.ofPlatform().name("metrics").daemon().start(() -> listen(address, metrics));
    }

    @SuppressWarnings("resource") // it ends with the process
    private static void listen(InetSocketAddress address, Supplier<MetricSnapshots> metrics) {
        boolean said = false;
        while (true) {
            try {
                open(address, metrics);
                Log.info("metrics: http://%s:%d/metrics", address.getHostString(), address.getPort());
                return;
            } catch (BindException e) {
                if (!said) {
                    Log.warn("metrics: cannot listen on %s: %s; trying again", address, e.getMessage());
                    said = true;
                }
            } catch (IOException | RuntimeException e) {
                Log.error("metrics: cannot listen on %s: %s", address, e.getMessage());
                return;
            }
            try {
                Thread.sleep(RETRY_MILLIS);
            } catch (InterruptedException e) {
                return;
            }
        }
    }

    /** Listens now. */
    static MetricsServer open(InetSocketAddress address, Supplier<MetricSnapshots> metrics) throws IOException {
        HttpServer server = HttpServer.create(address, 0);
        ExpositionFormats formats = ExpositionFormats.init();
        server.createContext("/", exchange -> answer(exchange, formats, metrics));
        server.setExecutor(Executors.newFixedThreadPool(
                THREADS, Thread.ofPlatform().name("metrics-", 0).daemon().factory()));
        server.start();
        return new MetricsServer(server);
    }

    private static void answer(HttpExchange exchange, ExpositionFormats formats, Supplier<MetricSnapshots> metrics)
            throws IOException {
        try (exchange) {
            if (!exchange.getRequestURI().getPath().equals("/metrics")) {
                refuse(exchange, 404, "only /metrics is here\n");
            } else if (!exchange.getRequestMethod().equals("GET")) {
                refuse(exchange, 405, "only GET is answered\n");
            } else {
                ExpositionFormatWriter writer =
                        formats.findWriter(exchange.getRequestHeaders().getFirst("Accept"));
                ByteArrayOutputStream text = new ByteArrayOutputStream();
                writer.write(text, metrics.get());
                send(exchange, 200, writer.getContentType(), text.toByteArray());
            }
        } catch (RuntimeException e) {
            Log.error("metrics: %s", e);
            throw e;
        }
    }

    private static void refuse(HttpExchange exchange, int status, String text) throws IOException {
        send(exchange, status, "text/plain; charset=utf-8", text.getBytes(StandardCharsets.UTF_8));
    }

    private static void send(HttpExchange exchange, int status, String type, byte[] body) throws IOException {
        exchange.getResponseHeaders().set("Content-Type", type);
        exchange.sendResponseHeaders(status, body.length);
        try (OutputStream out = exchange.getResponseBody()) {
            out.write(body);
        }
    }

    int port() {
        return server.getAddress().getPort();
    }

    @Override
    public void close() {
        server.stop(0);
    }
}

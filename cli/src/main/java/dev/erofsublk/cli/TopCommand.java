// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.ControlClient;
import dev.erofsublk.daemon.JsonObject;
import dev.erofsublk.daemon.StateDirectory;
import java.io.Console;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** A live view of what the daemon's devices do. */
final class TopCommand extends Command {
    private static final Duration PATIENCE = Duration.ofSeconds(5);
    private static final String CLEAR = "\033[H\033[2J";

    private final Option<Double> interval =
            option("-i, --interval", Double.class, "SECONDS", "Time between two views, from 0.1 on. Default: 1.");

    private final Option<Integer> count =
            option("-c, --count", Integer.class, "N", "End after N views. Default: go on until interrupted.");

    private final Map<String, JsonObject> before = new HashMap<>();

    TopCommand() {
        super("top", "Show what the devices do, again and again.");
    }

    @Override
    @SuppressWarnings("SystemConsoleNull") // its contract still allows for it
    public Integer call() throws IOException, InterruptedException {
        Console console = System.console();
        boolean terminal = console != null && console.isTerminal();
        int views = count.or(Integer.MAX_VALUE);
        double seconds = interval.or(1.0);
        long last = System.nanoTime();
        for (int i = 0; i < views; i++) {
            if (i > 0) {
                Thread.sleep(Math.max(100, (long) (seconds * 1000)));
            }
            JsonObject answer = ask();
            long now = System.nanoTime();
            List<Map<String, Object>> rows = new ArrayList<>();
            for (JsonObject device : answer.objects("devices")) {
                rows.add(row(device, (now - last) / 1e9));
            }
            last = now;
            System.out.print(terminal ? CLEAR : i > 0 ? "\n" : "");
            System.out.printf("daemon %d, %d devices%n", answer.number("pid"), rows.size());
            if (!rows.isEmpty()) {
                TextTable.print(rows);
            }
            System.out.flush();
        }
        return 0;
    }

    private static JsonObject ask() throws IOException {
        try (ControlClient daemon = ControlClient.connect(StateDirectory.ofUser())
                .orElseThrow(() -> new CommandException("no daemon runs"))) {
            return daemon.call(new JsonObject().put("command", "stats"), PATIENCE);
        }
    }

    private Map<String, Object> row(JsonObject device, double seconds) throws IOException {
        JsonObject earlier = before.put(device.string("device"), device);
        Map<String, Object> row = new LinkedHashMap<>();
        row.put("DEVICE", device.string("device"));
        row.put("READS/S", rate(device, earlier, "requests", seconds, 1));
        row.put("MB/S", rate(device, earlier, "bytes", seconds, 1e6));
        row.put("P50", percentile(device, 0.5));
        row.put("P99", percentile(device, 0.99));
        row.put("READS", device.number("requests"));
        row.put("MB", "%.1f".formatted(device.number("bytes") / 1e6));
        row.put("ERRORS", device.number("errors"));
        row.put("SOURCE", device.string("source"));
        return row;
    }

    private static String rate(JsonObject device, @Nullable JsonObject earlier, String field, double s, double unit)
            throws IOException {
        if (earlier == null || device.number(field) < earlier.number(field)) {
            return "-";
        }
        return "%.1f".formatted((device.number(field) - earlier.number(field)) / s / unit);
    }

    /** The upper end of the bucket in which it lies, of all timed requests since the daemon's start. */
    private static String percentile(JsonObject device, double part) throws IOException {
        List<Long> buckets = device.numbers("sampled_us");
        long rest = (long) (buckets.stream().mapToLong(Long::longValue).sum() * part);
        if (buckets.stream().allMatch(n -> n == 0)) {
            return "-";
        }
        int bucket = 0;
        while (bucket < buckets.size() - 1 && rest >= buckets.get(bucket)) {
            rest -= buckets.get(bucket++);
        }
        long micros = 1L << bucket;
        return micros < 10_000 ? micros + "us" : micros / 1000 + "ms";
    }
}

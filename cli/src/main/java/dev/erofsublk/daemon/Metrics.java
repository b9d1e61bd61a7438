// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DeviceCounters;
import dev.erofsublk.ublk.DeviceInfo;
import dev.erofsublk.ublk.DeviceState;
import io.prometheus.metrics.model.snapshots.ClassicHistogramBuckets;
import io.prometheus.metrics.model.snapshots.CounterSnapshot;
import io.prometheus.metrics.model.snapshots.CounterSnapshot.CounterDataPointSnapshot;
import io.prometheus.metrics.model.snapshots.GaugeSnapshot;
import io.prometheus.metrics.model.snapshots.GaugeSnapshot.GaugeDataPointSnapshot;
import io.prometheus.metrics.model.snapshots.HistogramSnapshot;
import io.prometheus.metrics.model.snapshots.HistogramSnapshot.HistogramDataPointSnapshot;
import io.prometheus.metrics.model.snapshots.InfoSnapshot;
import io.prometheus.metrics.model.snapshots.InfoSnapshot.InfoDataPointSnapshot;
import io.prometheus.metrics.model.snapshots.Labels;
import io.prometheus.metrics.model.snapshots.MetricSnapshot;
import io.prometheus.metrics.model.snapshots.MetricSnapshots;
import io.prometheus.metrics.model.snapshots.StateSetSnapshot;
import io.prometheus.metrics.model.snapshots.StateSetSnapshot.StateSetDataPointSnapshot;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.function.ToDoubleFunction;
import org.jspecify.annotations.Nullable;

/**
 * The daemon and its devices as Prometheus sees them (docs/metrics.md). Everything is read from the queues' counters
 * when it is asked for: nothing is registered, and whoever serves requests knows nothing of it.
 */
final class Metrics {
    private Metrics() {}

    /**
     * A device at the moment of a scrape.
     *
     * @param name without {@code /dev/}, as in the metrics of others
     * @param state of ublk; null of nbd, or if the kernel does not tell
     */
    record Sample(
            String name,
            String source,
            String format,
            int queues,
            int depth,
            long size,
            long residentBytes,
            DeviceCounters counters,
            @Nullable DeviceState state) {
        private Labels labels() {
            return Labels.of("device", name);
        }
    }

    /** All that is known of {@code daemon} now. */
    static MetricSnapshots of(Daemon daemon) {
        return of(samples(daemon), daemon.takeovers());
    }

    private static List<Sample> samples(Daemon daemon) {
        List<Sample> samples = new ArrayList<>();
        for (ServedDevice device : daemon.devices()) {
            if (device.isEnding()) {
                continue;
            }
            samples.add(new Sample(
                    Path.of(device.path()).getFileName().toString(),
                    device.record().spec().source().toString(),
                    device.record().format(),
                    device.queues(),
                    device.depth(),
                    device.image().size(),
                    device.residentBytes(),
                    device.counters(),
                    state(device.id())));
        }
        return samples;
    }

    private static @Nullable DeviceState state(DeviceId id) {
        if (id.backend() != Backend.UBLK) {
            return null;
        }
        try (ControlDevice control = ControlDevice.open()) {
            return control.find(id.number()).map(DeviceInfo::state).orElse(null);
        } catch (IOException e) {
            Log.debug("metrics: %s: %s", id, e.getMessage());
            return null;
        }
    }

    static MetricSnapshots of(List<Sample> devices, long takeovers) {
        List<MetricSnapshot> all = new ArrayList<>();
        all.add(InfoSnapshot.builder()
                .name("erofs_ublk_build")
                .help("Versions of the daemon.")
                .dataPoint(InfoDataPointSnapshot.builder()
                        .labels(Labels.of("version", version(), "java", System.getProperty("java.version")))
                        .build())
                .build());
        all.add(CounterSnapshot.builder()
                .name("erofs_ublk_takeovers")
                .help("Devices taken over from a daemon before this one, or from a queue that failed.")
                .dataPoint(CounterDataPointSnapshot.builder()
                        .value((double) takeovers)
                        .build())
                .build());
        all.add(GaugeSnapshot.builder()
                .name("erofs_ublk_devices")
                .help("Devices that are served.")
                .dataPoint(
                        GaugeDataPointSnapshot.builder().value(devices.size()).build())
                .build());
        if (!devices.isEmpty()) {
            addDevices(all, devices);
        }
        return new MetricSnapshots(all);
    }

    private static String version() {
        String version = Metrics.class.getPackage().getImplementationVersion();
        return version == null ? "unknown" : version;
    }

    private static void addDevices(List<MetricSnapshot> all, List<Sample> devices) {
        all.add(info(devices));
        all.add(states(devices));
        all.add(counter(
                "requests", "Requests answered, errors included.", devices, device -> device.counters.requests()));
        all.add(counter("read_bytes", "Bytes handed to the kernel.", devices, device -> device.counters.bytes()));
        all.add(counter("errors", "Requests answered with an error.", devices, device -> device.counters.errors()));
        all.add(counter(
                "cold_reads",
                "Requests that waited for a disk or a decoder.",
                devices,
                device -> device.counters.coldReads()));
        all.add(gauge("size_bytes", "Size of the device.", devices, Sample::size));
        all.add(gauge(
                "resident_bytes",
                "Bytes that could be read without waiting when they were last looked at.",
                devices,
                Sample::residentBytes));
        all.add(durations(devices));
    }

    private static MetricSnapshot info(List<Sample> devices) {
        InfoSnapshot.Builder info =
                InfoSnapshot.builder().name("erofs_ublk_device").help("What a device serves.");
        for (Sample device : devices) {
            info.dataPoint(InfoDataPointSnapshot.builder()
                    .labels(device.labels()
                            .add("source", device.source)
                            .add("format", device.format)
                            .add("queues", Integer.toString(device.queues))
                            .add("depth", Integer.toString(device.depth)))
                    .build());
        }
        return info.build();
    }

    private static MetricSnapshot states(List<Sample> devices) {
        StateSetSnapshot.Builder states =
                StateSetSnapshot.builder().name("erofs_ublk_device_state").help("The kernel's view of a device.");
        for (Sample device : devices) {
            StateSetDataPointSnapshot.Builder point =
                    StateSetDataPointSnapshot.builder().labels(device.labels());
            for (DeviceState state : DeviceState.values()) {
                point.state(state.name(), state == device.state);
            }
            states.dataPoint(point.build());
        }
        return states.build();
    }

    private static MetricSnapshot counter(
            String name, String help, List<Sample> devices, ToDoubleFunction<Sample> value) {
        CounterSnapshot.Builder counter =
                CounterSnapshot.builder().name("erofs_ublk_device_" + name).help(help);
        for (Sample device : devices) {
            counter.dataPoint(CounterDataPointSnapshot.builder()
                    .labels(device.labels())
                    .value(value.applyAsDouble(device))
                    .build());
        }
        return counter.build();
    }

    private static MetricSnapshot gauge(
            String name, String help, List<Sample> devices, ToDoubleFunction<Sample> value) {
        GaugeSnapshot.Builder gauge =
                GaugeSnapshot.builder().name("erofs_ublk_device_" + name).help(help);
        for (Sample device : devices) {
            gauge.dataPoint(GaugeDataPointSnapshot.builder()
                    .labels(device.labels())
                    .value(value.applyAsDouble(device))
                    .build());
        }
        return gauge.build();
    }

    private static MetricSnapshot durations(List<Sample> devices) {
        HistogramSnapshot.Builder histogram = HistogramSnapshot.builder()
                .name("erofs_ublk_device_request_duration_seconds")
                .help("From the kernel handing a request over until it has taken its bytes; timed are the requests of"
                        + " one turn of a queue in 64.");
        for (Sample device : devices) {
            List<Long> counts = device.counters.sampledMicros();
            if (counts.isEmpty()) {
                continue; // requests of nbd are not timed
            }
            List<Double> bounds = new ArrayList<>();
            for (int i = 0; i < counts.size() - 1; i++) {
                bounds.add((1L << i) / 1e6);
            }
            bounds.add(Double.POSITIVE_INFINITY);
            histogram.dataPoint(HistogramDataPointSnapshot.builder()
                    .labels(device.labels())
                    .classicHistogramBuckets(ClassicHistogramBuckets.of(bounds, counts))
                    .sum(device.counters.sampledNanos() / 1e9)
                    .build());
        }
        return histogram.build();
    }
}

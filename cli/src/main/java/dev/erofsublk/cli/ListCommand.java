// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.erofsublk.daemon.ControlClient;
import dev.erofsublk.daemon.JsonObject;
import dev.erofsublk.daemon.StateDirectory;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DeviceInfo;
import dev.erofsublk.ublk.DeviceState;
import dev.erofsublk.ublk.Parameters;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/**
 * Lists devices. The text has the words and columns of the other ublk tools, so that scripts made for those
 * ({@code common/ublk} of blktests, {@code test_common.sh} of the kernel's selftests) read this one too.
 */
@Command(name = "list", mixinStandardHelpOptions = true, description = "List the ublk devices of this machine.")
final class ListCommand implements Callable<Integer> {
    private static final Duration PATIENCE = Duration.ofSeconds(2);

    @Option(
            names = {"-n", "--number"},
            paramLabel = "ID",
            description = "Only this device.")
    private @Nullable Integer id;

    @Option(names = "--json", description = "JSON instead of text.")
    private boolean json;

    /**
     * A device.
     *
     * @param daemon what its daemon says of it; null if it is not the daemon's, or the daemon does not answer
     */
    private record Entry(
            DeviceInfo info,
            Parameters parameters,
            @Nullable JsonObject daemon) {}

    @Override
    public Integer call() throws IOException {
        List<Entry> entries = new ArrayList<>();
        Map<Long, JsonObject> served = askDaemon();
        try (ControlDevice control = ControlDevice.open()) {
            for (int each : id != null ? List.of(id) : ControlDevice.ids()) {
                Optional<DeviceInfo> info = control.find(each);
                if (info.isPresent()) {
                    entries.add(new Entry(info.get(), control.parameters(each), served.get((long) each)));
                } else if (id != null) {
                    throw new CommandException("there is no ublk device " + id);
                }
            }
        }
        if (json) {
            JsonOutput.print(out -> writeJson(out, entries));
        } else {
            for (Entry entry : entries) {
                print(entry);
            }
        }
        return 0;
    }

    /** What the daemon says of each device; nothing where none answers soon, as the kernel's word is enough. */
    private static Map<Long, JsonObject> askDaemon() throws IOException {
        Map<Long, JsonObject> devices = new HashMap<>();
        Optional<ControlClient> client = ControlClient.connect(StateDirectory.ofUser());
        if (client.isEmpty()) {
            return devices;
        }
        try (ControlClient daemon = client.get()) {
            JsonObject answer = daemon.call(new JsonObject().put("command", "list"), PATIENCE);
            for (JsonObject device : answer.objects("devices")) {
                devices.put(device.number("id"), device);
            }
        } catch (IOException e) {
            System.err.println("erofs-ublk: " + e.getMessage());
        }
        return devices;
    }

    private static void print(Entry entry) throws IOException {
        DeviceInfo info = entry.info;
        System.out.printf(
                "dev id %d: nr_hw_queues %d queue_depth %d block size %d dev_capacity %d%n",
                info.id(),
                info.queues(),
                info.depth(),
                1 << entry.parameters.logicalShift(),
                entry.parameters.sectors());
        System.out.printf(
                "\tmax rq size %d daemon pid %d flags 0x%x state %s%n",
                info.maxIoBytes(), info.pid(), info.flags(), info.state());
        if (entry.daemon != null) {
            System.out.printf(
                    "\tsource %s requests %d bytes %d errors %d cold %d resident %d%%%n",
                    entry.daemon.string("source"),
                    entry.daemon.number("requests"),
                    entry.daemon.number("bytes"),
                    entry.daemon.number("errors"),
                    entry.daemon.number("cold_reads"),
                    residentPercent(entry));
        }
    }

    private static long residentPercent(Entry entry) throws IOException {
        long size = entry.parameters.sectors() << 9;
        return entry.daemon == null || size == 0 ? 0 : entry.daemon.number("resident") * 100 / size;
    }

    private static void writeJson(JsonGenerator out, List<Entry> entries) throws IOException {
        out.writeStartArray();
        for (Entry entry : entries) {
            DeviceInfo info = entry.info;
            out.writeStartObject();
            out.writeNumberField("id", info.id());
            out.writeStringField("device", info.blockPath());
            out.writeStringField("state", info.state().name());
            out.writeNumberField("size", entry.parameters.sectors() << 9);
            out.writeNumberField("block_size", 1 << entry.parameters.logicalShift());
            out.writeBooleanField("read_only", entry.parameters.readOnly());
            out.writeNumberField("queues", info.queues());
            out.writeNumberField("depth", info.depth());
            out.writeNumberField("max_io_bytes", info.maxIoBytes());
            out.writeNumberField("pid", info.state() == DeviceState.LIVE ? info.pid() : -1);
            out.writeNumberField("owner_uid", info.ownerUid());
            FeaturesCommand.write(out, "flags", info.flags());
            if (entry.daemon != null) {
                out.writeStringField("source", entry.daemon.string("source"));
                out.writeNumberField("requests", entry.daemon.number("requests"));
                out.writeNumberField("bytes", entry.daemon.number("bytes"));
                out.writeNumberField("errors", entry.daemon.number("errors"));
                out.writeNumberField("cold_reads", entry.daemon.number("cold_reads"));
                out.writeNumberField("resident", entry.daemon.number("resident"));
            }
            out.writeEndObject();
        }
        out.writeEndArray();
    }
}

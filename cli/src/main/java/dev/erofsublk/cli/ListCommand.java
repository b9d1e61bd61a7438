// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import com.google.gson.stream.JsonWriter;
import dev.erofsublk.daemon.Backend;
import dev.erofsublk.daemon.Backends;
import dev.erofsublk.daemon.ControlClient;
import dev.erofsublk.daemon.DeviceId;
import dev.erofsublk.daemon.JsonObject;
import dev.erofsublk.daemon.NbdIdentity;
import dev.erofsublk.daemon.StateDirectory;
import dev.erofsublk.nbd.NbdInfo;
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
import org.jspecify.annotations.Nullable;

/**
 * Lists devices. The text has the words and columns of the other ublk tools, so that scripts made for those
 * ({@code common/ublk} of blktests, {@code test_common.sh} of the kernel's selftests) read this one too.
 */
final class ListCommand extends Command {
    private static final Duration PATIENCE = Duration.ofSeconds(2);

    private final Option<DeviceId> id = option(
            "-n, --number",
            new DeviceIdConverter(),
            "DEVICE",
            "Only this one: as add prints it; also nbdN, or the N of /dev/ublkbN.");

    private final Option<Boolean> json = flag("--json", "JSON instead of text.");

    private final StateDirectory directory = StateDirectory.ofUser();
    private final Map<String, JsonObject> served = new HashMap<>();
    private int daemonPid = -1;

    /**
     * A device.
     *
     * @param state in the words of ublk: LIVE with a server, QUIESCED without one
     * @param ublk what only that driver tells; null for nbd
     * @param daemon what its daemon says of it; null if it is not the daemon's, or the daemon does not answer
     */
    private record Entry(
            DeviceId id,
            DeviceState state,
            int pid,
            int queues,
            int depth,
            int blockSize,
            long size,
            int maxIoBytes,
            boolean readOnly,
            @Nullable DeviceInfo ublk,
            @Nullable JsonObject daemon) {}

    ListCommand() {
        super("list", "List the ublk devices of this machine, and those of the nbd driver that erofs-ublk has made.");
    }

    @Override
    public Integer call() throws IOException {
        askDaemon();
        List<Entry> entries = new ArrayList<>();
        Optional<ControlDevice> ublk = Backends.ublk();
        if (ublk.isPresent()) {
            try (ControlDevice control = ublk.get()) {
                for (int each : ControlDevice.ids()) {
                    Optional<DeviceInfo> info = control.find(each);
                    if (info.isPresent()) {
                        entries.add(ublk(info.get(), control.parameters(each)));
                    }
                }
            }
        }
        for (NbdInfo info : NbdInfo.all()) {
            if (NbdIdentity.of(info).isPresent()) {
                entries.add(nbd(info));
            }
        }
        DeviceId only = id.value();
        if (only != null) {
            entries.removeIf(entry -> !entry.id.equals(only));
            if (entries.isEmpty()) {
                throw new CommandException("there is no device " + only);
            }
        }
        if (json.isGiven()) {
            JsonOutput.print(out -> writeJson(out, entries));
        } else {
            for (Entry entry : entries) {
                print(entry);
            }
        }
        return 0;
    }

    private Entry ublk(DeviceInfo info, Parameters parameters) {
        return new Entry(
                new DeviceId(Backend.UBLK, info.id()),
                info.state(),
                info.pid(),
                info.queues(),
                info.depth(),
                1 << parameters.logicalShift(),
                parameters.sectors() << 9,
                info.maxIoBytes(),
                parameters.readOnly(),
                info,
                served.get(info.blockPath()));
    }

    /** The driver does not tell whether a device has a server, but those who serve do. */
    private Entry nbd(NbdInfo info) throws IOException {
        DeviceId device = new DeviceId(Backend.NBD, info.index());
        JsonObject daemon = served.get(device.path());
        boolean live = daemon != null || directory.isServedByCommand(device);
        return new Entry(
                device,
                live ? DeviceState.LIVE : DeviceState.QUIESCED,
                daemon != null ? daemonPid : info.pid(),
                info.connections(),
                info.depth(),
                info.blockSize(),
                info.size(),
                info.maxIoBytes(),
                true,
                null,
                daemon);
    }

    /** What the daemon says of each device; nothing where none answers soon, as the kernel's word is enough. */
    private void askDaemon() {
        Optional<ControlClient> client = ControlClient.connect(directory);
        if (client.isEmpty()) {
            return;
        }
        try (ControlClient daemon = client.get()) {
            JsonObject answer = daemon.call(new JsonObject().put("command", "list"), PATIENCE);
            daemonPid = (int) answer.number("pid");
            for (JsonObject device : answer.objects("devices")) {
                served.put(device.string("device"), device);
            }
        } catch (IOException e) {
            System.err.println("erofs-ublk: " + e.getMessage());
        }
    }

    private static void print(Entry entry) throws IOException {
        System.out.printf(
                "dev id %s: nr_hw_queues %d queue_depth %d block size %d dev_capacity %d%n",
                entry.ublk != null ? entry.id.number() : entry.id.path().substring("/dev/".length()),
                entry.queues,
                entry.depth,
                entry.blockSize,
                entry.size >>> 9);
        System.out.printf(
                "\tmax rq size %d daemon pid %d flags 0x%x state %s%n",
                entry.maxIoBytes, entry.pid, entry.ublk == null ? 0 : entry.ublk.flags(), entry.state);
        System.out.printf(
                "\tdevice %s backend %s%s%n",
                entry.id, entry.id.backend(), entry.ublk == null ? "" : " data path " + entry.ublk.dataPath());
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
        return entry.daemon == null || entry.size == 0 ? 0 : entry.daemon.number("resident") * 100 / entry.size;
    }

    private static void writeJson(JsonWriter out, List<Entry> entries) throws IOException {
        out.beginArray();
        for (Entry entry : entries) {
            out.beginObject();
            out.name("id").value(entry.id.number());
            out.name("device").value(entry.id.path());
            out.name("backend").value(entry.id.backend().toString());
            out.name("state").value(entry.state.name());
            out.name("size").value(entry.size);
            out.name("block_size").value(entry.blockSize);
            out.name("read_only").value(entry.readOnly);
            out.name("queues").value(entry.queues);
            out.name("depth").value(entry.depth);
            out.name("max_io_bytes").value(entry.maxIoBytes);
            out.name("pid").value(entry.state == DeviceState.LIVE ? entry.pid : -1);
            if (entry.ublk != null) {
                out.name("owner_uid").value(entry.ublk.ownerUid());
                out.name("data_path").value(entry.ublk.dataPath().toString());
                FeaturesCommand.write(out, "flags", entry.ublk.flags());
            }
            if (entry.daemon != null) {
                out.name("source").value(entry.daemon.string("source"));
                out.name("requests").value(entry.daemon.number("requests"));
                out.name("bytes").value(entry.daemon.number("bytes"));
                out.name("errors").value(entry.daemon.number("errors"));
                out.name("cold_reads").value(entry.daemon.number("cold_reads"));
                out.name("resident").value(entry.daemon.number("resident"));
                if (entry.daemon.has("prefetch_left")) { // a daemon of before does not tell
                    out.name("prefetch_left").value(entry.daemon.number("prefetch_left"));
                }
            }
            out.endObject();
        }
        out.endArray();
    }
}

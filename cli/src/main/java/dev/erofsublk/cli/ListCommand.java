// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DeviceInfo;
import dev.erofsublk.ublk.DeviceState;
import dev.erofsublk.ublk.Parameters;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
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
    @Option(
            names = {"-n", "--number"},
            paramLabel = "ID",
            description = "Only this device.")
    private @Nullable Integer id;

    @Option(names = "--json", description = "JSON instead of text.")
    private boolean json;

    private record Entry(DeviceInfo info, Parameters parameters) {}

    @Override
    public Integer call() throws IOException {
        List<Entry> entries = new ArrayList<>();
        try (ControlDevice control = ControlDevice.open()) {
            for (int each : id != null ? List.of(id) : ControlDevice.ids()) {
                Optional<DeviceInfo> info = control.find(each);
                if (info.isPresent()) {
                    entries.add(new Entry(info.get(), control.parameters(each)));
                } else if (id != null) {
                    throw new CommandException("there is no ublk device " + id);
                }
            }
        }
        if (json) {
            JsonOutput.print(out -> writeJson(out, entries));
        } else {
            entries.forEach(ListCommand::print);
        }
        return 0;
    }

    private static void print(Entry entry) {
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
            out.writeEndObject();
        }
        out.writeEndArray();
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.ublk.DeviceCounters;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** The requests of docs/control-protocol.md, as things that a {@link Daemon} does. */
final class ControlProtocol {
    private final Daemon daemon;
    private final Runnable handedOver;
    private final Runnable shutDown;

    /**
     * @param handedOver called when the devices of this process are let go of and the answer has left
     * @param shutDown called to end the process in the way its options say
     */
    ControlProtocol(Daemon daemon, Runnable handedOver, Runnable shutDown) {
        this.daemon = daemon;
        this.handedOver = handedOver;
        this.shutDown = shutDown;
    }

    /** The answer to one request; never throws for what a request says. */
    ControlServer.Answer answer(String line) {
        try {
            JsonObject request = JsonObject.parse(line);
            String text = perform(request).put("ok", true).toString();
            return new ControlServer.Answer(text, afterwards(request.string("command")));
        } catch (Daemon.ClosingException e) {
            return ControlServer.Answer.of(new JsonObject()
                    .put("ok", false)
                    .put("error", e.getMessage())
                    .put("ending", true)
                    .toString());
        } catch (IOException e) {
            return ControlServer.failure(String.valueOf(e.getMessage()));
        } catch (RuntimeException e) {
            Log.error("control: %s in a request: %s", e, line.length() > 200 ? line.substring(0, 200) : line);
            return ControlServer.failure("internal error: " + e);
        }
    }

    /** Does what {@code request} says. */
    JsonObject perform(JsonObject request) throws IOException {
        String command = request.string("command");
        return switch (command) {
            case "ping" ->
                new JsonObject()
                        .put("pid", Linux.processId())
                        .put("devices", daemon.devices().size());
            case "add" -> add(request);
            case "del" -> delete(request);
            case "recover" -> recover(request);
            case "list" -> list(false);
            case "stats" -> list(true);
            case "hand-over" -> {
                daemon.handOverAll();
                yield new JsonObject();
            }
            case "shutdown" -> new JsonObject();
            default ->
                throw new DaemonException("field \"command\" is " + command
                        + ", expected ping, add, del, list, stats, recover, hand-over or shutdown");
        };
    }

    /** What ends the process must not come before the answer has left. */
    private Runnable afterwards(String command) {
        return switch (command) {
            case "hand-over" -> handedOver;
            case "shutdown" -> shutDown;
            default -> () -> {};
        };
    }

    private JsonObject add(JsonObject request) throws IOException {
        ServedDevice device = daemon.add(DeviceSpec.fromJson(request));
        JsonObject answer = new JsonObject().put("id", device.id().number()).put("device", device.path());
        device.hashTree()
                .ifPresent(tree -> answer.put("root_hash", tree.rootHash())
                        .put("veritysetup", tree.openCommand(device.path(), "NAME")));
        return answer;
    }

    private JsonObject delete(JsonObject request) throws IOException {
        boolean async = request.bool("async", false);
        Deletion deletion = new Deletion(request.bool("force", false), async);
        List<String> failures = new ArrayList<>();
        for (DeviceId id : ids(request)) {
            try {
                deletion.delete(id);
                if (!async) {
                    daemon.awaitForgotten(id);
                }
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw new IOException("interrupted", e);
            } catch (IOException e) {
                failures.add(String.valueOf(e.getMessage()));
            }
        }
        return orFailures(failures);
    }

    private JsonObject recover(JsonObject request) throws IOException {
        List<String> failures = new ArrayList<>();
        List<DeviceId> ids = request.has("id") ? List.of(id(request)) : daemon.recorded();
        for (DeviceId id : ids) {
            try {
                daemon.recover(id);
            } catch (IOException e) {
                failures.add("%s: %s".formatted(id, e.getMessage()));
            }
        }
        return orFailures(failures)
                .put(
                        "devices",
                        ids.stream()
                                .filter(id -> daemon.device(id).isPresent())
                                .map(DeviceId::path)
                                .toList());
    }

    private static JsonObject orFailures(List<String> failures) throws DaemonException {
        if (!failures.isEmpty()) {
            throw new DaemonException(String.join("; ", failures));
        }
        return new JsonObject();
    }

    private List<DeviceId> ids(JsonObject request) throws DaemonException {
        if (request.bool("all", false)) {
            return daemon.devices().stream().map(ServedDevice::id).toList();
        }
        return List.of(id(request));
    }

    private static DeviceId id(JsonObject request) throws DaemonException {
        return new DeviceId(
                Backend.named(request.optionalString("backend").orElse("ublk")),
                request.integer("id", 0, DeviceId.MAX_NUMBER));
    }

    private JsonObject list(boolean times) {
        List<JsonObject> devices = new ArrayList<>();
        for (ServedDevice device : daemon.devices()) {
            DeviceCounters counters = device.counters();
            JsonObject json = new JsonObject()
                    .put("id", device.id().number())
                    .put("device", device.path())
                    .put("backend", device.id().backend().toString())
                    .put("source", device.record().spec().source().toString())
                    .put("size", device.image().size())
                    .put("queues", device.queues())
                    .put("depth", device.depth())
                    .put("requests", counters.requests())
                    .put("bytes", counters.bytes())
                    .put("errors", counters.errors())
                    .put("cold_reads", counters.coldReads())
                    .put("resident", device.residentBytes())
                    .put("prefetch_left", device.history.prefetchLeft());
            if (times) {
                json.put("sampled_us", counters.sampledMicros()).put("sampled_ns_sum", counters.sampledNanos());
            }
            devices.add(json);
        }
        return new JsonObject().put("pid", Linux.processId()).put("devices", devices);
    }
}

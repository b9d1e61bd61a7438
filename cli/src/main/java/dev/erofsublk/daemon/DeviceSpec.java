// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.ublk.DataPath;
import dev.erofsublk.ublk.Device;
import dev.erofsublk.ublk.DeviceOptions;
import dev.erofsublk.ublk.Recovery;
import java.util.Locale;

/**
 * A device that somebody wants.
 *
 * @param backend the driver that makes it
 * @param number the N of {@code /dev/ublkbN} or {@code /dev/nbdN}, or {@link DeviceOptions#ANY_ID}
 * @param queues hardware queues, 1 to 4096; of nbd connections, 1 to 64
 * @param depth requests in flight for each queue, 1 to 4096; of nbd 128
 * @param blockSize the logical block size in bytes; 0 for the image's own
 * @param recovery what becomes of the device when its server dies
 * @param unprivileged whether it belongs to a user without {@code CAP_SYS_ADMIN}; only of ublk
 * @param dataPath how the bytes of a read get into it; only of ublk
 * @param spin microseconds that a queue looks out for requests before it sleeps, 0 to 1000, or {@link Device#SPIN_AUTO}; only of
 *     ublk
 * @param verify whether all content is to be compared with the image's digests before the device is made
 * @param timeout only of nbd: seconds that the driver waits for an answer before it asks again; also the pause that
 *     readers notice when their server dies
 * @param deadTimeout only of nbd: seconds that readers wait for the next server, before they get errors
 * @param trace of what is read first
 */
public record DeviceSpec(
        SourceSpec source,
        Backend backend,
        int number,
        int queues,
        int depth,
        int blockSize,
        Recovery recovery,
        boolean unprivileged,
        DataPath dataPath,
        int spin,
        boolean verify,
        int timeout,
        int deadTimeout,
        TraceFiles trace) {
    /** Short enough for a pause, and longer than disks usually take. */
    public static final int DEFAULT_TIMEOUT = 5;
    /** Time to start the server by hand. */
    public static final int DEFAULT_DEAD_TIMEOUT = 300;

    public static final int MAX_TIMEOUT = 86_400;
    public static final int MAX_CONNECTIONS = 64;

    public JsonObject toJson() {
        JsonObject json = new JsonObject()
                .put("source", source.toJson())
                .put("backend", backend.toString())
                .put("id", number)
                .put("queues", queues)
                .put("depth", depth)
                .put("block_size", blockSize)
                .put("recovery", recovery.name().toLowerCase(Locale.ROOT))
                .put("unprivileged", unprivileged)
                .put("data_path", dataPath.toString())
                .put("spin", spin == Device.SPIN_AUTO ? null : spin)
                .put("verify", verify)
                .put("timeout", timeout)
                .put("dead_timeout", deadTimeout);
        trace.addTo(json);
        return json;
    }

    public static DeviceSpec fromJson(JsonObject json) throws DaemonException {
        Backend backend = Backend.named(json.optionalString("backend").orElse("ublk"));
        boolean nbd = backend == Backend.NBD;
        DataPath dataPath = dataPath(json.optionalString("data_path").orElse("auto"), backend);
        TraceFiles trace = TraceFiles.fromJson(json);
        if (dataPath == DataPath.ZERO_COPY && trace.record() != null) {
            throw new DaemonException("field \"record_trace\" is " + trace.record()
                    + ", expected none with data_path zero-copy, which does not look who reads first");
        }
        return new DeviceSpec(
                SourceSpec.fromJson(json.object("source")),
                backend,
                json.integer("id", DeviceOptions.ANY_ID, DeviceId.MAX_NUMBER, DeviceOptions.ANY_ID),
                json.integer("queues", 1, nbd ? MAX_CONNECTIONS : DeviceOptions.MAX_QUEUES, 1),
                nbd
                        ? json.integer("depth", NbdServed.DEPTH, NbdServed.DEPTH, NbdServed.DEPTH)
                        : json.integer("depth", 1, DeviceOptions.MAX_DEPTH, DeviceOptions.DEFAULT_DEPTH),
                blockSize(json),
                recovery(json.optionalString("recovery").orElse("reissue")),
                json.bool("unprivileged", false),
                dataPath,
                json.integer("spin", 0, nbd ? 0 : Device.MAX_SPIN_MICROS, Device.SPIN_AUTO),
                json.bool("verify", false),
                json.integer("timeout", 1, MAX_TIMEOUT, DEFAULT_TIMEOUT),
                json.integer("dead_timeout", 1, MAX_TIMEOUT, DEFAULT_DEAD_TIMEOUT),
                trace);
    }

    private static int blockSize(JsonObject json) throws DaemonException {
        int bytes = json.integer("block_size", 0, 4096, 0);
        if (bytes != 0 && (bytes < 512 || Integer.bitCount(bytes) != 1)) {
            throw new DaemonException("field \"block_size\" is " + bytes + ", expected 512, 1024, 2048 or 4096");
        }
        return bytes;
    }

    private static Recovery recovery(String name) throws DaemonException {
        return switch (name) {
            case "none" -> Recovery.NONE;
            case "reissue" -> Recovery.REISSUE;
            case "fail_io" -> Recovery.FAIL_IO;
            default ->
                throw new DaemonException("field \"recovery\" is " + name + ", expected none, reissue or fail_io");
        };
    }

    private static DataPath dataPath(String name, Backend backend) throws DaemonException {
        boolean ublk = backend == Backend.UBLK;
        return DataPath.named(name)
                .filter(path -> ublk || path == DataPath.AUTO)
                .orElseThrow(() -> new DaemonException("field \"data_path\" is " + name + ", expected auto"
                        + (ublk ? ", direct or zero-copy" : " with backend " + backend)));
    }

    /** The logical block size that the device gets. */
    int checkedBlockSize(int imageBlockSize) throws DaemonException {
        if (blockSize > imageBlockSize) {
            throw new DaemonException("block size is %d, expected a power of two from 512 to %d, the image's own"
                    .formatted(blockSize, imageBlockSize));
        }
        return blockSize == 0 ? imageBlockSize : blockSize;
    }

    /** What to ask the ublk driver for. */
    DeviceOptions options(int imageBlockSize, long token) throws DaemonException {
        return new DeviceOptions(
                number,
                queues,
                depth,
                checkedBlockSize(imageBlockSize),
                DeviceOptions.DEFAULT_MAX_IO_BYTES,
                recovery,
                token,
                unprivileged,
                dataPath);
    }
}

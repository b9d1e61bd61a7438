// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.verity.VerityImage;
import dev.erofsublk.daemon.AccessHistory;
import dev.erofsublk.daemon.Backend;
import dev.erofsublk.daemon.Backends;
import dev.erofsublk.daemon.DeviceId;
import dev.erofsublk.daemon.DeviceNode;
import dev.erofsublk.daemon.DeviceSpec;
import dev.erofsublk.daemon.MappedImage;
import dev.erofsublk.daemon.SourceSpec;
import dev.erofsublk.daemon.TraceFiles;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DataPath;
import dev.erofsublk.ublk.Device;
import dev.erofsublk.ublk.DeviceOptions;
import dev.erofsublk.ublk.Feature;
import dev.erofsublk.ublk.Recovery;
import dev.erofsublk.ublk.UblkUnavailableException;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** Composes an image and serves it; prints the device's path on stdout once it can be read. */
@Command(
        name = "add",
        mixinStandardHelpOptions = true,
        description = "Compose an image and serve it as a block device, /dev/ublkbN or /dev/nbdN.",
        footer = "Prints the path of the device once it can be read. A daemon serves it until 'erofs-ublk del'.")
final class AddCommand implements Callable<Integer> {
    @Mixin
    private SourceOptions source = new SourceOptions();

    @Option(
            names = "--backend",
            paramLabel = "DRIVER",
            description = "The kernel's driver: ublk, or nbd where a host has no ublk. Default: ublk.")
    private Backend backend = Backend.UBLK;

    @Option(
            names = {"-n", "--number"},
            paramLabel = "ID",
            description = "The N of /dev/ublkbN or /dev/nbdN; the lowest free one if not given.")
    private int id = DeviceOptions.ANY_ID;

    @Option(
            names = {"-q", "--queues"},
            paramLabel = "QUEUES",
            defaultValue = "1",
            description =
                    "Hardware queues, each with a thread, 1 to 4096; at most one for each CPU is made. Default: 1."
                            + " With nbd: connections, 1 to 64.")
    private int queues;

    @Option(
            names = {"-d", "--depth"},
            paramLabel = "DEPTH",
            defaultValue = "" + DeviceOptions.DEFAULT_DEPTH,
            description = "Requests in flight for each queue, 1 to 4096. Default: 128, which nbd always has.")
    private int depth;

    @Option(
            names = "--block-size",
            paramLabel = "BYTES",
            description = "Logical block size: 512, 1024, 2048 or 4096, at most the image's own, which is the default.")
    private @Nullable Integer blockSize;

    @Option(
            names = "--data-path",
            paramLabel = "PATH",
            description = "How the bytes of a read get into it: direct (the kernel copies them from the mapped image),"
                    + " zero-copy (it reads the files into the request, past the page cache where it can; Linux 6.16),"
                    + " or auto, the default, which is direct.",
            converter = DataPathConverter.class)
    private DataPath dataPath = DataPath.AUTO;

    @Mixin
    private VerityOptions verity = new VerityOptions();

    @Option(
            names = "--verify",
            description = "Compare all content with the digests that the image has before the device is made; files and"
                    + " chunks are checked in any case.")
    private boolean verify;

    @Option(names = "--foreground", description = "Serve in this process, without the daemon, until it is interrupted.")
    private boolean foreground;

    @ArgGroup
    private @Nullable OnDeath onDeath;

    @Option(
            names = "--record-trace",
            paramLabel = "FILE",
            description = "Write down which parts of the image are read, in the order in which they are read first.")
    private @Nullable Path recordTrace;

    @Option(
            names = "--prefetch",
            paramLabel = "FILE",
            description = "Bring in what such a trace of the same image names, before it is asked for.")
    private @Nullable Path prefetch;

    @Mixin
    private NbdTimeouts timeouts = new NbdTimeouts();

    @Mixin
    private LogOptions log = new LogOptions();

    /** What happens when the server dies. */
    static final class OnDeath {
        @Option(
                names = "--no-recovery",
                description = "The device ends with its server. Default: readers wait until it is taken over.")
        boolean noRecovery;

        @Option(
                names = "--fail-io",
                description = "Readers get errors until the device is taken over (ublk: Linux 6.13).")
        boolean failIo;

        @Option(
                names = "--unprivileged",
                description = "A device of this user, without CAP_SYS_ADMIN (Linux 6.3); it ends with its server."
                        + " /dev/ublk-control and the new nodes have to be this user's to open: see packaging/.")
        boolean unprivileged;
    }

    @Spec
    private @Nullable CommandSpec spec;

    @Override
    public Integer call() throws IOException, InterruptedException {
        checkRange("-n", id, DeviceOptions.ANY_ID, DeviceId.MAX_NUMBER);
        if (backend == Backend.NBD) {
            checkRange("-q", queues, 1, DeviceSpec.MAX_CONNECTIONS);
            checkRange("-d", depth, DeviceOptions.DEFAULT_DEPTH, DeviceOptions.DEFAULT_DEPTH);
            if (dataPath != DataPath.AUTO) {
                throw usage("--data-path goes with --backend ublk");
            }
        } else {
            checkRange("-q", queues, 1, DeviceOptions.MAX_QUEUES);
            checkRange("-d", depth, 1, DeviceOptions.MAX_DEPTH);
            if (timeouts.isGiven()) {
                throw usage("--timeout and --dead-timeout go with --backend nbd");
            }
        }
        timeouts.check();
        checkOnDeath();
        if (foreground && backend == Backend.NBD && (recordTrace != null || prefetch != null)) {
            throw usage("--record-trace and --prefetch go with --backend nbd only without --foreground");
        }
        if (recordTrace != null && dataPath == DataPath.ZERO_COPY) {
            throw usage("--record-trace goes without --data-path zero-copy");
        }
        log.apply();
        if (!foreground) {
            return askDaemon();
        }
        return backend == Backend.NBD ? serveNbdHere() : serveHere();
    }

    private void checkOnDeath() {
        if (onDeath == null) {
            return;
        }
        if (onDeath.unprivileged && backend == Backend.NBD) {
            throw usage("--unprivileged goes without --backend nbd");
        }
        if (foreground && (onDeath.failIo || onDeath.noRecovery)) {
            throw usage("--no-recovery and --fail-io go without --foreground");
        }
    }

    private int askDaemon() throws IOException, InterruptedException {
        DeviceSpec device = new DeviceSpec(
                image(),
                backend,
                id,
                queues,
                depth,
                checkedBlockSize(4096),
                recovery(),
                unprivileged(),
                dataPath,
                verify,
                timeouts.timeout(),
                timeouts.deadTimeout(),
                new TraceFiles(recordTrace, prefetch));
        DaemonLauncher.ask(device.toJson().put("command", "add"), answer -> {
            if (answer.has("root_hash")) {
                showTree(answer.string("root_hash"), answer.string("veritysetup"));
            }
            System.out.println(answer.string("device"));
            System.out.flush();
        });
        return 0;
    }

    private SourceSpec image() {
        SourceSpec plain = source.spec();
        return verity.salt()
                .map(salt -> new SourceSpec(plain.source().withVerity(salt)))
                .orElse(plain);
    }

    /** On stderr, since stdout has the device's path and nothing else. */
    private static void showTree(String rootHash, String openCommand) {
        System.err.println("root hash  " + rootHash);
        System.err.println(openCommand);
    }

    private boolean unprivileged() {
        return onDeath != null && onDeath.unprivileged;
    }

    private Recovery recovery() throws IOException {
        if (onDeath == null) {
            return Recovery.REISSUE;
        }
        if (!onDeath.failIo) {
            return Recovery.NONE;
        }
        if (backend == Backend.NBD) {
            return Recovery.FAIL_IO;
        }
        try (ControlDevice control = ControlDevice.open()) {
            if (!Feature.USER_RECOVERY_FAIL_IO.in(control.features())) {
                throw new CommandException("--fail-io: this kernel does not offer it (Linux 6.13 or newer does)");
            }
        }
        return Recovery.FAIL_IO;
    }

    private int serveNbdHere() throws IOException, InterruptedException {
        try (MappedImage mapped = MappedImage.open(image())) {
            int logical = checkedBlockSize(mapped.image().flat().blockSize());
            mapped.require(verify);
            new NbdForeground(mapped, queues, logical, timeouts).serve(id, path -> show(mapped.image(), path));
        }
        return 0;
    }

    private int serveHere() throws IOException, InterruptedException {
        try (MappedImage mapped = MappedImage.open(image());
                AccessHistory history =
                        AccessHistory.open(new TraceFiles(recordTrace, prefetch), mapped.image(), mapped.space());
                ControlDevice control = openControl();
                Device device = addChecked(control, mapped)) {
            Runtime.getRuntime().addShutdownHook(new Thread(() -> end(device, history), "shutdown"));
            String path = device.info().blockPath();
            history.start(path, mapped.space()::load);
            DeviceNode.await(Path.of(path), unprivileged());
            show(mapped.image(), path);
            device.awaitStopped();
        }
        return 0;
    }

    private static void show(Image image, String device) {
        if (image instanceof VerityImage tree) {
            showTree(tree.tree().rootHash(), tree.tree().openCommand(device, "NAME"));
        }
        System.out.println(device);
        System.out.flush();
    }

    private static ControlDevice openControl() throws IOException {
        try {
            return ControlDevice.open();
        } catch (UblkUnavailableException e) {
            throw Backends.instead(e);
        }
    }

    private void checkRange(String option, int value, int least, int most) {
        if (value < least || value > most) {
            throw usage("%s is %d, expected %d to %d".formatted(option, value, Math.max(least, 0), most));
        }
    }

    private ParameterException usage(String message) {
        if (spec == null) {
            throw new IllegalStateException("not run by picocli");
        }
        return new ParameterException(spec.commandLine(), message);
    }

    private Device addChecked(ControlDevice control, MappedImage mapped) throws IOException {
        mapped.require(verify);
        int imageBlock = mapped.image().flat().blockSize();
        int logical = checkedBlockSize(imageBlock) == 0 ? imageBlock : checkedBlockSize(imageBlock);
        try {
            return Device.start(
                    control,
                    mapped.space(),
                    new DeviceOptions(
                            id,
                            queues,
                            depth,
                            logical,
                            DeviceOptions.DEFAULT_MAX_IO_BYTES,
                            Recovery.NONE,
                            0,
                            unprivileged(),
                            dataPath));
        } catch (LinuxException e) {
            throw switch (e.errno()) {
                case Errno.EEXIST ->
                    new CommandException("device id " + id + " is already in use (see 'erofs-ublk list')");
                case Errno.ENOSPC, Errno.EACCES ->
                    new CommandException(
                            "no further ublk device is allowed: /sys/module/ublk_drv/parameters/ublks_max is"
                                    + " reached (" + e.getMessage() + ")");
                default -> e;
            };
        }
    }

    /** What was asked for; 0 if nothing was. */
    private int checkedBlockSize(int most) {
        if (blockSize == null) {
            return 0;
        }
        if (blockSize < 512 || blockSize > most || Integer.bitCount(blockSize) != 1) {
            throw usage("--block-size is %d, expected a power of two from 512 to %d".formatted(blockSize, most));
        }
        return blockSize;
    }

    private static void end(Device device, AccessHistory history) {
        try {
            device.close();
        } catch (IOException e) {
            System.err.println("erofs-ublk: " + e.getMessage());
        }
        history.close();
    }
}

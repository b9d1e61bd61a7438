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

/** Composes an image and serves it; prints the device's path on stdout once it can be read. */
final class AddCommand extends Command {
    private final SourceOptions source = new SourceOptions(this);

    private final Option<Backend> backend = option(
            "--backend",
            Backend.class,
            "DRIVER",
            "The kernel's driver: ublk, or nbd where a host has no ublk. Default: ublk.");

    private final Option<Integer> id = option(
            "-n, --number",
            Integer.class,
            "ID",
            "The N of /dev/ublkbN or /dev/nbdN; the lowest free one if not given.");

    private final Option<Integer> queues = option(
            "-q, --queues",
            Integer.class,
            "QUEUES",
            "Hardware queues, each with a thread, 1 to 4096; at most one for each CPU is made. Default: 1."
                    + " With nbd: connections, 1 to 64.");

    private final Option<Integer> depth = option(
            "-d, --depth",
            Integer.class,
            "DEPTH",
            "Requests in flight for each queue, 1 to 4096. Default: 128, which nbd always has.");

    private final Option<Integer> blockSize = option(
            "--block-size",
            Integer.class,
            "BYTES",
            "Logical block size: 512, 1024, 2048 or 4096, at most the image's own, which is the default.");

    private final Option<DataPath> dataPath = option(
            "--data-path",
            new DataPathConverter(),
            "PATH",
            "How the bytes of a read get into it: direct (the kernel copies them from the mapped image),"
                    + " zero-copy (it reads the files into the request, past the page cache where it can; Linux 6.16),"
                    + " or auto, the default, which is direct.");

    private final Option<Integer> spin = option(
            "--spin",
            text -> text.equals("auto") ? Device.SPIN_AUTO : Integer.parseInt(text),
            "MICROSECONDS",
            "How long a queue looks out for requests before it sleeps, 0 to 1000, or auto, the default: as long as it"
                    + " takes here to wake a reader and to be woken by it. 0 saves processor time where reads need not"
                    + " be fast.");

    private final VerityOptions verity = new VerityOptions(this);

    private final Option<Boolean> verify = flag(
            "--verify",
            "Compare all content with the digests that the image has before the device is made; files and"
                    + " chunks are checked in any case.");

    private final Option<Boolean> foreground =
            flag("--foreground", "Serve in this process, without the daemon, until it is interrupted.");

    private final Option<Path> recordTrace = option(
            "--record-trace",
            Path.class,
            "FILE",
            "Write down which parts of the image are read, in the order in which they are read first.");

    private final Option<Path> prefetch = option(
            "--prefetch",
            Path.class,
            "FILE",
            "Bring in what such a trace of the same image names, before it is asked for.");

    private final NbdTimeouts timeouts = new NbdTimeouts(this);

    private final LogOptions log = new LogOptions(this);

    private final Option<Boolean> noRecovery =
            flag("--no-recovery", "The device ends with its server. Default: readers wait until it is taken over.");

    private final Option<Boolean> failIo =
            flag("--fail-io", "Readers get errors until the device is taken over (ublk: Linux 6.13).");

    private final Option<Boolean> unprivileged = flag(
            "--unprivileged",
            "A device of this user, without CAP_SYS_ADMIN (Linux 6.3); it ends with its server."
                    + " /dev/ublk-control and the new nodes have to be this user's to open: see packaging/.");

    AddCommand() {
        super("add", "Compose an image and serve it as a block device, /dev/ublkbN or /dev/nbdN.");
        atMostOneOf(noRecovery, failIo, unprivileged);
        footer("Prints the path of the device once it can be read. A daemon serves it until 'erofs-ublk del'.");
    }

    @Override
    public Integer call() throws IOException, InterruptedException {
        number();
        queues();
        depth();
        refuse(isNbd() && dataPath() != DataPath.AUTO, "--data-path goes with --backend ublk");
        refuse(isNbd() && spin.isGiven(), "--spin goes with --backend ublk");
        spin();
        refuse(!isNbd() && timeouts.isGiven(), "--timeout and --dead-timeout go with --backend nbd");
        timeouts.check();
        refuse(isNbd() && unprivileged.isGiven(), "--unprivileged goes without --backend nbd");
        boolean here = foreground.isGiven();
        refuse(
                here && (failIo.isGiven() || noRecovery.isGiven()),
                "--no-recovery and --fail-io go without --foreground");
        refuse(
                here && isNbd() && (recordTrace.isGiven() || prefetch.isGiven()),
                "--record-trace and --prefetch go with --backend nbd only without --foreground");
        refuse(
                recordTrace.isGiven() && dataPath() == DataPath.ZERO_COPY,
                "--record-trace goes without --data-path zero-copy");
        log.apply();
        if (!here) {
            return askDaemon();
        }
        return isNbd() ? serveNbdHere() : serveHere();
    }

    private boolean isNbd() {
        return backend.or(Backend.UBLK) == Backend.NBD;
    }

    /** As asked for, or any; which the other ublk tools write as -1. */
    private int number() {
        return id.or(DeviceOptions.ANY_ID) == DeviceOptions.ANY_ID
                ? DeviceOptions.ANY_ID
                : checked("-n", id, 0, 0, DeviceId.MAX_NUMBER);
    }

    private int queues() {
        return checked("-q", queues, 1, 1, isNbd() ? DeviceSpec.MAX_CONNECTIONS : DeviceOptions.MAX_QUEUES);
    }

    private int depth() {
        int usual = DeviceOptions.DEFAULT_DEPTH;
        return checked("-d", depth, usual, isNbd() ? usual : 1, isNbd() ? usual : DeviceOptions.MAX_DEPTH);
    }

    private DataPath dataPath() {
        return dataPath.or(DataPath.AUTO);
    }

    private int spin() {
        return spin.or(Device.SPIN_AUTO) == Device.SPIN_AUTO
                ? Device.SPIN_AUTO
                : checked("--spin", spin, 0, 0, Device.MAX_SPIN_MICROS);
    }

    private TraceFiles trace() {
        return new TraceFiles(recordTrace.value(), prefetch.value());
    }

    private int askDaemon() throws IOException, InterruptedException {
        DeviceSpec device = new DeviceSpec(
                image(),
                backend.or(Backend.UBLK),
                number(),
                queues(),
                depth(),
                checkedBlockSize(blockSize, 4096),
                recovery(),
                unprivileged.isGiven(),
                dataPath(),
                spin(),
                verify.isGiven(),
                timeouts.timeout(),
                timeouts.deadTimeout(),
                trace());
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

    private Recovery recovery() throws IOException {
        if (!failIo.isGiven()) {
            return noRecovery.isGiven() || unprivileged.isGiven() ? Recovery.NONE : Recovery.REISSUE;
        }
        if (isNbd()) {
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
            int logical = checkedBlockSize(blockSize, mapped.image().flat().blockSize());
            mapped.require(verify.isGiven());
            new NbdForeground(mapped, queues(), logical, timeouts).serve(number(), path -> show(mapped.image(), path));
        }
        return 0;
    }

    private int serveHere() throws IOException, InterruptedException {
        try (MappedImage mapped = MappedImage.open(image());
                AccessHistory history = AccessHistory.open(trace(), mapped.image(), mapped.space());
                ControlDevice control = openControl();
                Device device = addChecked(control, mapped)) {
            Runtime.getRuntime().addShutdownHook(new Thread(() -> end(device, history), "shutdown"));
            device.spin(spin());
            String path = device.info().blockPath();
            history.start(path, mapped.space()::load);
            DeviceNode.await(Path.of(path), unprivileged.isGiven());
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

    private Device addChecked(ControlDevice control, MappedImage mapped) throws IOException {
        mapped.require(verify.isGiven());
        int imageBlock = mapped.image().flat().blockSize();
        int asked = checkedBlockSize(blockSize, imageBlock);
        int logical = asked == 0 ? imageBlock : asked;
        try {
            return Device.start(
                    control,
                    mapped.space(),
                    new DeviceOptions(
                            number(),
                            queues(),
                            depth(),
                            logical,
                            DeviceOptions.DEFAULT_MAX_IO_BYTES,
                            Recovery.NONE,
                            0,
                            unprivileged.isGiven(),
                            dataPath()));
        } catch (LinuxException e) {
            throw switch (e.errno()) {
                case Errno.EEXIST ->
                    new CommandException("device id " + number() + " is already in use (see 'erofs-ublk list')");
                case Errno.ENOSPC, Errno.EACCES ->
                    new CommandException(
                            "no further ublk device is allowed: /sys/module/ublk_drv/parameters/ublks_max is"
                                    + " reached (" + e.getMessage() + ")");
                default -> e;
            };
        }
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

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Image;
import dev.erofsublk.daemon.Backend;
import dev.erofsublk.daemon.DeviceSpec;
import dev.erofsublk.daemon.SourceSpec;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.Device;
import dev.erofsublk.ublk.DeviceOptions;
import dev.erofsublk.ublk.Feature;
import dev.erofsublk.ublk.Recovery;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.nio.file.Files;
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
        description = "Compose an image and serve it as /dev/ublkbN.",
        footer = "Prints the path of the device once it can be read. A daemon serves it until 'erofs-ublk del'.")
final class AddCommand implements Callable<Integer> {
    private static final int NODE_TRIES = 500;
    private static final long NODE_RETRY_MILLIS = 10;

    @Mixin
    private SourceOptions source = new SourceOptions();

    @Option(
            names = {"-n", "--number"},
            paramLabel = "ID",
            description = "The N of /dev/ublkbN; the lowest free one if not given.")
    private int id = DeviceOptions.ANY_ID;

    @Option(
            names = {"-q", "--queues"},
            paramLabel = "QUEUES",
            defaultValue = "1",
            description =
                    "Hardware queues, each with a thread, 1 to 4096; at most one for each CPU is made. Default: 1.")
    private int queues;

    @Option(
            names = {"-d", "--depth"},
            paramLabel = "DEPTH",
            defaultValue = "" + DeviceOptions.DEFAULT_DEPTH,
            description = "Requests in flight for each queue, 1 to 4096. Default: 128.")
    private int depth;

    @Option(
            names = "--block-size",
            paramLabel = "BYTES",
            description = "Logical block size: 512, 1024, 2048 or 4096, at most the image's own, which is the default.")
    private @Nullable Integer blockSize;

    @Option(names = "--foreground", description = "Serve in this process, without the daemon, until it is interrupted.")
    private boolean foreground;

    @ArgGroup
    private @Nullable OnDeath onDeath;

    @Mixin
    private LogOptions log = new LogOptions();

    /** What happens when the server dies. */
    static final class OnDeath {
        @Option(
                names = "--no-recovery",
                description = "The device ends with its server. Default: readers wait until it is taken over.")
        boolean noRecovery;

        @Option(names = "--fail-io", description = "Readers get errors until the device is taken over (Linux 6.13).")
        boolean failIo;
    }

    @Spec
    private @Nullable CommandSpec spec;

    @Override
    public Integer call() throws IOException, InterruptedException {
        checkRange("-n", id, DeviceOptions.ANY_ID, (1 << 20) - 1);
        checkRange("-q", queues, 1, DeviceOptions.MAX_QUEUES);
        checkRange("-d", depth, 1, DeviceOptions.MAX_DEPTH);
        log.apply();
        return foreground ? serveHere() : askDaemon();
    }

    private int askDaemon() throws IOException, InterruptedException {
        SourceSpec image = source.spec();
        DeviceSpec device =
                new DeviceSpec(image, Backend.UBLK, id, queues, depth, checkedBlockSize(4096), recovery(), false);
        DaemonLauncher.ask(device.toJson().put("command", "add"), answer -> {
            System.out.println(answer.string("device"));
            System.out.flush();
        });
        return 0;
    }

    private Recovery recovery() throws IOException {
        if (onDeath == null) {
            return Recovery.REISSUE;
        }
        if (!onDeath.failIo) {
            return Recovery.NONE;
        }
        try (ControlDevice control = ControlDevice.open()) {
            if (!Feature.USER_RECOVERY_FAIL_IO.in(control.features())) {
                throw new CommandException("--fail-io: this kernel does not offer it (Linux 6.13 or newer does)");
            }
        }
        return Recovery.FAIL_IO;
    }

    private int serveHere() throws IOException, InterruptedException {
        try (Image image = source.open();
                AddressSpace space = AddressSpace.map(image.flat());
                ControlDevice control = ControlDevice.open();
                Device device = start(control, space, image)) {
            Runtime.getRuntime().addShutdownHook(new Thread(() -> closeQuietly(device), "shutdown"));
            awaitNode(Path.of(device.info().blockPath()));
            System.out.println(device.info().blockPath());
            System.out.flush();
            device.awaitStopped();
        }
        return 0;
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

    private Device start(ControlDevice control, AddressSpace space, Image image) throws IOException {
        int imageBlock = image.flat().blockSize();
        int logical = checkedBlockSize(imageBlock) == 0 ? imageBlock : checkedBlockSize(imageBlock);
        try {
            return Device.start(
                    control, space, new DeviceOptions(id, queues, depth, logical, DeviceOptions.DEFAULT_MAX_IO_BYTES));
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

    private static void awaitNode(Path node) throws IOException, InterruptedException {
        for (int tries = 0; !Files.exists(node); tries++) {
            if (tries == NODE_TRIES) {
                throw new CommandException(node + " did not appear: is devtmpfs mounted on /dev?");
            }
            Thread.sleep(NODE_RETRY_MILLIS);
        }
    }

    private static void closeQuietly(Device device) {
        try {
            device.close();
        } catch (IOException e) {
            System.err.println("erofs-ublk: " + e.getMessage());
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.Backend;
import dev.erofsublk.daemon.DeviceId;
import dev.erofsublk.daemon.DeviceNode;
import dev.erofsublk.daemon.MappedImage;
import dev.erofsublk.daemon.NbdIdentity;
import dev.erofsublk.daemon.StateDirectory;
import dev.erofsublk.nbd.Export;
import dev.erofsublk.nbd.NbdDevice;
import dev.erofsublk.nbd.NbdInfo;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.time.Duration;
import java.util.Optional;
import java.util.function.Consumer;

/**
 * Serves an image as {@code /dev/nbdN} in this process. Started again for the same device after it was killed, it takes
 * the device over, and readers have noticed a pause.
 */
final class NbdForeground {
    private final StateDirectory state = StateDirectory.ofUser();

    private final Export export;
    private final NbdIdentity identity;
    private final NbdDevice.Options options;

    /**
     * @param blockSize logical block size in bytes; 0 for the image's own
     * @param mapped not to be closed before {@link #serve} has returned
     */
    NbdForeground(MappedImage mapped, int connections, int blockSize, NbdTimeouts timeouts) throws CommandException {
        export = new Export("", "", mapped.space());
        if (blockSize != 0 && export.size() % blockSize != 0) {
            throw new CommandException(
                    "--block-size is %d, expected one of which %d bytes, the device's size, are a multiple"
                            .formatted(blockSize, export.size()));
        }
        identity = NbdIdentity.of(mapped.image(), connections, state);
        options = new NbdDevice.Options(
                connections,
                blockSize,
                Duration.ofSeconds(timeouts.timeout()),
                Duration.ofSeconds(timeouts.deadTimeout()),
                identity.toString(),
                false);
    }

    /**
     * Serves until the device is disconnected. A signal disconnects it, unless it is mounted: then it is left to the next
     * server.
     *
     * @param index which device; -1 for one that is free
     * @param ready gets the device's path once it can be read
     */
    void serve(int index, Consumer<String> ready) throws IOException, InterruptedException {
        state.create();
        Optional<StateDirectory.Lock> lock = index < 0 ? Optional.empty() : Optional.of(lock(index));
        try (NbdDevice device = start(index)) {
            StateDirectory.Lock held = lock.isPresent() ? lock.get() : lock(device.index());
            Runtime.getRuntime().addShutdownHook(new Thread(() -> end(device), "shutdown"));
            DeviceNode.await(device.path(), false);
            ready.accept(device.path().toString());
            device.awaitEnd();
            held.close();
        }
    }

    private StateDirectory.Lock lock(int index) throws IOException {
        return state.tryLock(new DeviceId(Backend.NBD, index))
                .orElseThrow(() ->
                        new CommandException(NbdDevice.path(index) + " is served by another erofs-ublk: end it first"));
    }

    private NbdDevice start(int index) throws IOException {
        Optional<NbdInfo> before = index < 0 ? Optional.empty() : NbdInfo.find(index);
        try {
            if (before.filter(identity::is).isPresent()) {
                log(NbdDevice.path(index) + " is taken over");
                return NbdDevice.reattach(index, export, options, NbdForeground::log);
            }
            return NbdDevice.attach(index, export, options, NbdForeground::log);
        } catch (LinuxException e) {
            throw switch (e.errno()) {
                case Errno.EBUSY ->
                    new CommandException("%s is in use; its backend is \"%s\", expected \"%s\" to take it over"
                            .formatted(
                                    NbdDevice.path(index),
                                    before.map(NbdInfo::backend).orElse(""),
                                    identity));
                case Errno.EPERM ->
                    new CommandException("the nbd driver does not listen to user id %d: run as root"
                            .formatted(Linux.effectiveUserId()));
                default -> e;
            };
        }
    }

    private void end(NbdDevice device) {
        try {
            device.detach();
        } catch (IOException e) {
            log(
                    "%s: left without a server; the same command for %s takes it over, within %d s before readers get errors"
                            .formatted(
                                    e.getMessage(),
                                    device.path(),
                                    options.deadConnectionTimeout().toSeconds()));
            device.close();
        }
    }

    private static void log(String line) {
        System.err.println("erofs-ublk: " + line);
    }
}

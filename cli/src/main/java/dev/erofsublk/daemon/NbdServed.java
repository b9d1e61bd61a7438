// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.source.ImageCheck;
import dev.erofsublk.composer.trace.Prefetch;
import dev.erofsublk.nbd.Export;
import dev.erofsublk.nbd.NbdCounters;
import dev.erofsublk.nbd.NbdDevice;
import dev.erofsublk.nbd.NbdInfo;
import dev.erofsublk.ublk.DeviceCounters;
import dev.erofsublk.ublk.Recovery;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.Optional;

/** A device of the nbd driver, which this process serves through socket pairs. */
final class NbdServed extends ServedDevice {
    /** Of every queue, and not to be chosen (drivers/block/nbd.c, {@code nbd_dev_add}). */
    static final int DEPTH = 128;

    private final Export export;
    private final NbdDevice device;

    private NbdServed(MappedImage mapped, DeviceRecord record, AccessHistory history, Export export, NbdDevice device) {
        super(mapped, record, history);
        this.export = export;
        this.device = device;
    }

    /**
     * The driver tells the device's number when it can be read already, so the check has to end before, and only then is
     * it written down.
     */
    static NbdServed add(
            DeviceSpec spec, MappedImage mapped, AccessHistory history, ImageCheck check, StateDirectory state)
            throws IOException {
        Export export = new Export("", "", mapped.space());
        long token = DeviceRecord.newToken();
        int blockSize = spec.blockSize() == 0 ? 0 : spec.checkedBlockSize(export.blockSize());
        if (blockSize != 0 && export.size() % blockSize != 0) {
            throw new DaemonException(
                    "block size is %d, expected one of which %d bytes, the device's size, are a multiple"
                            .formatted(blockSize, export.size()));
        }
        NbdDevice.Options options = options(spec, blockSize, NbdIdentity.of(token, state));
        check.require();
        NbdDevice device = NbdDevice.attach(spec.number(), export, options, NbdServed::log);
        try {
            DeviceRecord record = DeviceRecord.of(device.index(), token, spec, mapped.image());
            state.write(record);
            return new NbdServed(mapped, record, history, export, device);
        } catch (IOException | RuntimeException e) {
            NbdDevice.disconnect(device.index());
            device.close();
            throw e;
        }
    }

    static NbdServed recover(DeviceRecord record, MappedImage mapped, AccessHistory history, StateDirectory state)
            throws IOException {
        Export export = new Export("", "", mapped.space());
        NbdDevice.Options options = options(record.spec(), 0, NbdIdentity.of(record.token(), state));
        NbdDevice device = NbdDevice.reattach(record.number(), export, options, NbdServed::log);
        return new NbdServed(mapped, record, history, export, device);
    }

    private static NbdDevice.Options options(DeviceSpec spec, int blockSize, NbdIdentity identity) {
        Duration dead = spec.recovery() == Recovery.REISSUE ? Duration.ofSeconds(spec.deadTimeout()) : Duration.ZERO;
        return new NbdDevice.Options(
                spec.queues(), blockSize, Duration.ofSeconds(spec.timeout()), dead, identity.toString(), false);
    }

    private static void log(String line) {
        Log.warn("%s", line);
    }

    static boolean isWaiting(DeviceRecord record, StateDirectory state) throws IOException {
        Optional<NbdInfo> device = NbdInfo.find(record.number()).filter(NbdIdentity.of(record.token(), state)::is);
        if (device.isPresent() && record.spec().recovery() == Recovery.NONE) {
            NbdDevice.disconnect(record.number());
            return false;
        }
        return device.isPresent();
    }

    @Override
    Prefetch.Loader loader() {
        return export::bringIn;
    }

    @Override
    int queues() {
        return record().spec().queues();
    }

    @Override
    int depth() {
        return DEPTH;
    }

    @Override
    DeviceCounters counters() {
        NbdCounters counters = export.counters();
        return new DeviceCounters(
                counters.reads(),
                counters.bytes(),
                counters.errors(),
                counters.lastErrorOffset(),
                counters.coldReads(),
                List.of(),
                0);
    }

    @Override
    long residentBytes() {
        return export.residentBytes();
    }

    @Override
    void suspect(boolean suspect) {
        // a reply whose bytes are missing becomes an error by itself
    }

    @Override
    void awaitStopped() throws InterruptedException {
        device.awaitEnd();
    }

    @Override
    Optional<ServedDevice> recoverAgain(Duration patience) {
        return Optional.empty(); // broken connections are replaced as they break: it ends only when it is disconnected
    }

    @Override
    void leave() throws IOException {
        if (record().spec().recovery() == Recovery.NONE) {
            disconnect();
        }
        device.close();
    }

    @Override
    void letGo() {
        device.close();
    }

    @Override
    void delete() throws IOException {
        try {
            disconnect();
        } finally {
            device.close();
        }
    }

    private void disconnect() throws IOException {
        try {
            NbdDevice.disconnect(device.index());
        } catch (LinuxException e) {
            if (!device.isDisconnected()) {
                throw e;
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.composer.Residency;
import dev.erofsublk.composer.source.ImageCheck;
import dev.erofsublk.composer.trace.Prefetch;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.Device;
import dev.erofsublk.ublk.DeviceCounters;
import dev.erofsublk.ublk.DeviceInfo;
import dev.erofsublk.ublk.DeviceState;
import java.io.IOException;
import java.time.Duration;
import java.util.Optional;

/** A device of the ublk driver. Each has a control device of its own, so that a command that waits concerns no other. */
final class UblkServed extends ServedDevice {
    private final ControlDevice control;
    private final Device device;

    private UblkServed(
            MappedImage mapped, DeviceRecord record, AccessHistory history, ControlDevice control, Device device) {
        super(mapped, record, history);
        this.control = control;
        this.device = device;
        device.spin(record.spec().spin());
    }

    static UblkServed add(
            DeviceSpec spec, MappedImage mapped, AccessHistory history, ImageCheck check, StateDirectory state)
            throws IOException {
        ControlDevice control = ControlDevice.open();
        Device device = null;
        try {
            long token = DeviceRecord.newToken();
            device = Device.add(
                    control, mapped.space(), spec.options(mapped.image().flat().blockSize(), token));
            DeviceRecord record = DeviceRecord.of(device.info().id(), token, spec, mapped.image());
            state.write(record);
            try {
                check.require();
                device.goLive();
            } catch (IOException | RuntimeException e) {
                state.remove(record.id());
                throw e;
            }
            return new UblkServed(mapped, record, history, control, device);
        } catch (IOException | RuntimeException e) {
            if (device != null) {
                device.close();
            }
            control.close();
            throw e;
        }
    }

    static UblkServed recover(DeviceRecord record, MappedImage mapped, AccessHistory history, Duration patience)
            throws IOException {
        ControlDevice control = ControlDevice.open();
        try {
            Device device = Device.recover(control, mapped.space(), record.number(), patience);
            return new UblkServed(mapped, record, history, control, device);
        } catch (IOException | RuntimeException e) {
            control.close();
            throw e;
        }
    }

    static boolean isWaiting(DeviceRecord record) throws IOException {
        try (ControlDevice control = ControlDevice.open()) {
            DeviceInfo info = control.find(record.number()).orElse(null);
            if (info == null || info.token() != record.token()) {
                return false;
            }
            if (info.state() == DeviceState.DEAD) {
                control.deleteSoon(record.number()); // it was not yet, or no longer, to be read; it may be open
                return false;
            }
            return true;
        }
    }

    @Override
    Optional<ServedDevice> recoverAgain(Duration patience) throws IOException {
        if (isGone()) {
            return Optional.empty();
        }
        device.release();
        Device again = Device.recover(control, mapped.space(), record().number(), patience);
        return Optional.of(new UblkServed(mapped, record(), history, control, again));
    }

    private boolean isGone() throws IOException {
        try (ControlDevice another = ControlDevice.open()) {
            Optional<DeviceInfo> info = another.find(record().number());
            return info.isEmpty()
                    || info.get().token() != record().token()
                    || info.get().state() == DeviceState.DEAD;
        }
    }

    @Override
    Prefetch.Loader loader() {
        return mapped.space()::load;
    }

    @Override
    int queues() {
        return device.info().queues();
    }

    @Override
    int depth() {
        return device.info().depth();
    }

    @Override
    DeviceCounters counters() {
        return device.counters();
    }

    @Override
    long residentBytes() {
        Residency residency = mapped.space().residency();
        long resident = residency.units() - residency.missing();
        return resident == residency.units()
                ? image().size()
                : Math.min(image().size(), resident * Residency.UNIT_BYTES);
    }

    @Override
    void suspect(boolean suspect) {
        device.suspect(suspect);
    }

    @Override
    void awaitStopped() throws IOException, InterruptedException {
        device.awaitStopped();
    }

    @Override
    void leave() {
        device.release();
    }

    @Override
    void letGo() {
        device.release();
        control.close();
    }

    @Override
    void delete() throws IOException {
        try {
            device.close();
        } finally {
            control.close();
        }
    }
}

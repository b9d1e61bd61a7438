// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.benchmarks;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.DataPath;
import dev.erofsublk.ublk.Device;
import dev.erofsublk.ublk.DeviceOptions;
import dev.erofsublk.ublk.Recovery;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/**
 * Serves a file of no format, or zeros, until it is killed: what the comparison needs beside the command itself.
 *
 * <p>Arguments: ID QUEUES DEPTH DATA-PATH, then paths of files or block devices, which lie one behind the other on the
 * device, or {@code zeros:BYTES}. A device of zeros is our null target: all of it is the kernel's one page of zeros, so the rest is
 * the cost of serving.
 */
public final class BareDevice {
    private BareDevice() {}

    public static void main(String[] args) throws IOException, InterruptedException {
        DeviceOptions options = new DeviceOptions(
                Integer.parseInt(args[0]),
                Integer.parseInt(args[1]),
                Integer.parseInt(args[2]),
                4096,
                DeviceOptions.DEFAULT_MAX_IO_BYTES,
                Recovery.NONE,
                0,
                false,
                DataPath.named(args[3]).orElseThrow());
        try (FlatImage image = image(List.of(args).subList(4, args.length));
                AddressSpace space = AddressSpace.map(image);
                ControlDevice control = ControlDevice.open();
                Device device = Device.start(control, space, options)) {
            device.spin(Device.SPIN_AUTO); // as add does
            System.out.println(device.info().blockPath());
            device.awaitStopped();
        }
    }

    private static FlatImage image(List<String> parts) throws IOException {
        FlatImage.Builder builder = FlatImage.builder(4096);
        for (String part : parts) {
            if (part.startsWith("zeros:")) {
                builder.zeros(Long.parseLong(part.substring("zeros:".length())));
            } else {
                Blob blob = Blob.open(Path.of(part));
                builder.append(blob.size() & -4096L, blob, 0);
            }
        }
        return builder.build();
    }
}

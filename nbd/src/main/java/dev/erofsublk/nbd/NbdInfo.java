// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;

/**
 * What the kernel says of a connected device of its nbd driver, in {@code /sys/block/nbdN} (drivers/block/nbd.c of Linux
 * 7.2; {@code backend} since 5.14).
 *
 * @param index the N of {@code /dev/nbdN}
 * @param pid of the process that made the device; one that took it over later is not told
 * @param backend the identifier that its server gave; empty if it gave none
 * @param size bytes of the device
 * @param blockSize logical block size in bytes
 * @param connections sockets that it was made with, each of which has a hardware queue
 * @param depth requests that each of them may have in flight
 * @param maxIoBytes the longest request
 */
public record NbdInfo(
        int index, int pid, String backend, long size, int blockSize, int connections, int depth, int maxIoBytes) {
    private static final Path DEVICES = Path.of("/sys/block");

    /** The device of index {@code index}; nothing if it is not connected. */
    public static Optional<NbdInfo> find(int index) {
        Path sys = DEVICES.resolve("nbd" + index);
        try {
            return Optional.of(new NbdInfo(
                    index,
                    (int) number(sys, "pid"), // first: it is there while the device is connected
                    text(sys, "backend"),
                    number(sys, "size") << 9,
                    (int) number(sys, "queue/logical_block_size"),
                    queues(sys),
                    (int) number(sys, "mq/0/nr_tags"),
                    (int) number(sys, "queue/max_sectors_kb") << 10));
        } catch (IOException | NumberFormatException e) {
            return Optional.empty();
        }
    }

    /** All connected devices, by index, whoever serves them. */
    public static List<NbdInfo> all() throws IOException {
        List<NbdInfo> devices = new ArrayList<>();
        try (DirectoryStream<Path> nodes = Files.newDirectoryStream(DEVICES, "nbd[0-9]*")) {
            for (Path node : nodes) {
                String number = node.getFileName().toString().substring(3);
                if (number.matches("\\d{1,7}")) {
                    find(Integer.parseInt(number)).ifPresent(devices::add);
                }
            }
        }
        devices.sort(Comparator.comparingInt(NbdInfo::index));
        return devices;
    }

    /** Whether the kernel has the driver, as far as one can tell without {@code CAP_SYS_ADMIN}. */
    public static boolean isDriverThere() {
        return Files.exists(Path.of("/sys/module/nbd"));
    }

    /** The device node. */
    public Path path() {
        return NbdDevice.path(index);
    }

    private static String text(Path sys, String attribute) throws IOException {
        Path file = sys.resolve(attribute);
        return Files.exists(file) ? Files.readString(file).strip() : "";
    }

    private static long number(Path sys, String attribute) throws IOException {
        return Long.parseLong(Files.readString(sys.resolve(attribute)).strip());
    }

    private static int queues(Path sys) throws IOException {
        try (DirectoryStream<Path> queues = Files.newDirectoryStream(sys.resolve("mq"), "[0-9]*")) {
            int count = 0;
            for (Path ignored : queues) {
                count++;
            }
            return count;
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** Who keeps a block device open: mounts of any mount namespace, other block devices, processes. */
final class Holders {
    private static final int MANY = 8;

    private Holders() {}

    /**
     * Describes the holders of {@code device}, for example {@code "mounted on /mnt"}; as far as this process may see
     * them, which for root is all of them.
     */
    static List<String> of(String device) throws IOException {
        List<String> holders = new ArrayList<>();
        Path sys = Path.of("/sys/block", Path.of(device).getFileName().toString());
        String number;
        try (DirectoryStream<Path> links = Files.newDirectoryStream(sys.resolve("holders"))) {
            number = Files.readString(sys.resolve("dev")).strip();
            links.forEach(link -> holders.add("used by /dev/" + link.getFileName()));
        } catch (IOException e) {
            return holders; // there is no block device to hold
        }
        Set<String> namespaces = new HashSet<>();
        Set<String> seen = new HashSet<>();
        try (DirectoryStream<Path> processes = Files.newDirectoryStream(Path.of("/proc"), "[0-9]*")) {
            for (Path process : processes) {
                try {
                    if (namespaces.add(
                            Files.readSymbolicLink(process.resolve("ns/mnt")).toString())) {
                        mounts(process, number, holders, seen);
                    }
                    descriptors(process, device, holders);
                } catch (IOException e) {
                    // it has ended meanwhile, or is not ours to look at
                }
                if (holders.size() >= MANY) {
                    holders.add("and perhaps others");
                    break;
                }
            }
        }
        return holders;
    }

    /** proc(5), mountinfo: field 3 is the device's number, field 5 the mount point. */
    private static void mounts(Path process, String number, List<String> holders, Set<String> seen) throws IOException {
        for (String line : Files.readAllLines(process.resolve("mountinfo"), StandardCharsets.ISO_8859_1)) {
            String[] fields = line.split(" ", 6);
            if (fields.length == 6 && fields[2].equals(number) && seen.add(fields[4])) {
                holders.add("mounted on " + fields[4]);
            }
        }
    }

    private static void descriptors(Path process, String device, List<String> holders) throws IOException {
        try (DirectoryStream<Path> links = Files.newDirectoryStream(process.resolve("fd"))) {
            for (Path link : links) {
                if (Files.readSymbolicLink(link).toString().equals(device)) {
                    String command = Files.readString(process.resolve("comm")).strip();
                    holders.add("open in process %s (%s)".formatted(process.getFileName(), command));
                    return;
                }
            }
        }
    }
}

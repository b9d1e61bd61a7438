// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Which device: the N of {@code /dev/ublkbN} or {@code /dev/nbdN}.
 *
 * @param number 0 to 1048575, as many as a block device driver has minor numbers
 */
public record DeviceId(Backend backend, int number) implements Comparable<DeviceId> {
    public static final int MAX_NUMBER = (1 << 20) - 1;

    private static final Pattern NAME = Pattern.compile("(?:/dev/)?(ublkb|nbd|)(\\d{1,7})");

    static DeviceId ublk(int number) {
        return new DeviceId(Backend.UBLK, number);
    }

    static DeviceId nbd(int number) {
        return new DeviceId(Backend.NBD, number);
    }

    /** Reads what a person writes, {@code /dev/nbd3}, {@code nbd3}, or just 3 for {@code /dev/ublkb3}. */
    public static Optional<DeviceId> parse(String text) {
        Matcher name = NAME.matcher(text);
        if (!name.matches() || text.equals("/dev/" + name.group(2)) || Integer.parseInt(name.group(2)) > MAX_NUMBER) {
            return Optional.empty();
        }
        Backend backend = name.group(1).equals("nbd") ? Backend.NBD : Backend.UBLK;
        return Optional.of(new DeviceId(backend, Integer.parseInt(name.group(2))));
    }

    /** The node that is read and mounted. */
    public String path() {
        return backend.path(number);
    }

    @Override
    public int compareTo(DeviceId other) {
        int order = backend.compareTo(other.backend);
        return order != 0 ? order : Integer.compare(number, other.number);
    }

    @Override
    public String toString() {
        return path();
    }
}

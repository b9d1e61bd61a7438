// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.DeviceId;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** The device that somebody names on the command line. */
final class DeviceIdConverter implements ITypeConverter<DeviceId> {
    static final String DESCRIPTION = "The device, as add prints it; also nbdN, or the N of /dev/ublkbN.";

    @Override
    public DeviceId convert(String text) {
        return DeviceId.parse(text)
                .orElseThrow(
                        () -> new TypeConversionException("is '" + text + "', expected /dev/ublkbN, /dev/nbdN or N"));
    }
}

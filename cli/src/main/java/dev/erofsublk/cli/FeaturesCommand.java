// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.erofsublk.ublk.ControlDevice;
import dev.erofsublk.ublk.Feature;
import java.io.IOException;

/** Says what the kernel's ublk driver offers. */
final class FeaturesCommand extends Command {
    private final Option<Boolean> json = flag("--json", "JSON instead of text.");

    FeaturesCommand() {
        super("features", "Show what the kernel's ublk driver offers.");
    }

    @Override
    public Integer call() throws IOException {
        long features = ask();
        if (json.isGiven()) {
            JsonOutput.print(out -> {
                out.writeStartObject();
                write(out, "features", features);
                out.writeEndObject();
            });
            return 0;
        }
        System.out.printf("ublk_drv features: 0x%x%n", features);
        for (Feature feature : Feature.of(features)) {
            System.out.printf("0x%-16x: %s%n", feature.bit(), feature);
        }
        if (Feature.unknown(features) != 0) {
            System.out.printf("0x%-16x: not known to this version of erofs-ublk%n", Feature.unknown(features));
        }
        return 0;
    }

    private static long ask() throws IOException {
        try (ControlDevice control = ControlDevice.open()) {
            return control.features();
        }
    }

    static void write(JsonGenerator out, String field, long flags) throws IOException {
        out.writeArrayFieldStart(field);
        for (Feature feature : Feature.of(flags)) {
            out.writeString(feature.name());
        }
        out.writeEndArray();
        out.writeStringField(field + "_hex", "0x" + Long.toHexString(flags));
    }
}

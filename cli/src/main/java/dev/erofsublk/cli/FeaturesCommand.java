// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import com.google.gson.stream.JsonWriter;
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
                out.beginObject();
                write(out, "features", features);
                out.endObject();
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

    static void write(JsonWriter out, String field, long flags) throws IOException {
        out.name(field).beginArray();
        for (Feature feature : Feature.of(flags)) {
            out.value(feature.name());
        }
        out.endArray();
        out.name(field + "_hex").value("0x" + Long.toHexString(flags));
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import com.google.gson.stream.JsonWriter;
import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.Zeros;
import java.io.IOException;
import java.util.List;
import java.util.Map;

/** Shows what an image is made of and where each byte of the device comes from. */
final class InspectCommand extends Command {
    private static final int BAR = 40;
    /** Of a longer map the first and last half of this are shown. */
    private static final int LINES = 200;

    private final SourceOptions source = new SourceOptions(this);

    private final Option<Boolean> json = flag("--json", "JSON instead of text.");

    InspectCommand() {
        super("inspect", "Show superblock, device table and extent map of an image.");
    }

    @Override
    public Integer call() throws IOException {
        try (Image image = source.open()) {
            Description description = new Description();
            image.describe(description);
            if (json.isGiven()) {
                JsonOutput.print(out -> writeJson(out, image, description));
            } else {
                description.sections().forEach(InspectCommand::print);
                printMap(image.flat());
            }
        }
        return 0;
    }

    private static void print(String name, List<Map<String, Object>> rows) {
        System.out.println(name);
        if (rows.size() == 1) {
            rows.getFirst()
                    .forEach((key, value) ->
                            System.out.printf("  %-14s %s%n", key, LsCommand.printable(TextTable.text(value))));
        } else {
            TextTable.print(rows);
        }
        System.out.println();
    }

    private static void printMap(FlatImage flat) {
        System.out.printf(
                "extents (%d; device of %s, %d bytes, in blocks of %d)%n",
                flat.extentCount(), ProgressLine.size(flat.size()), flat.size(), flat.blockSize());
        int digits = Long.toString(flat.size()).length();
        for (int i = 0; i < flat.extentCount(); i++) {
            if (flat.extentCount() > LINES && i == LINES / 2) {
                System.out.printf("  ... %d more; --json has all ...%n", flat.extentCount() - LINES);
                i = flat.extentCount() - LINES / 2;
            }
            Extent extent = flat.extent(i);
            System.out.printf(
                    "  %" + digits + "d .. %" + digits + "d  %9s  %5.1f%%  |%s|  %s%s%n",
                    extent.start(),
                    extent.end(),
                    ProgressLine.size(extent.length()),
                    100.0 * extent.length() / flat.size(),
                    bar(extent, flat.size()),
                    LsCommand.printable(extent.source().name()),
                    extent.sourceOffset() == 0 ? "" : " from byte " + extent.sourceOffset());
        }
    }

    /** The device from left to right, and what of it the extent is: at least one character, a hole in dashes. */
    static String bar(Extent extent, long size) {
        int from = (int) Math.min(BAR - 1, BAR * ((double) extent.start() / size));
        int to = (int) Math.clamp(Math.ceil(BAR * ((double) extent.end() / size)), from + 1, BAR);
        String mark = extent.source() == Zeros.INSTANCE ? "-" : "#";
        return ".".repeat(from) + mark.repeat(to - from) + ".".repeat(BAR - to);
    }

    private static void writeJson(JsonWriter out, Image image, Description description) throws IOException {
        FlatImage flat = image.flat();
        out.beginObject();
        out.name("format").value(image.format());
        out.name("size").value(flat.size());
        out.name("block_size").value(flat.blockSize());
        for (Map.Entry<String, List<Map<String, Object>>> section :
                description.sections().entrySet()) {
            out.name(section.getKey()).beginArray();
            for (Map<String, Object> row : section.getValue()) {
                JsonOutput.writeRow(out, row);
            }
            out.endArray();
        }
        out.name("extents").beginArray();
        for (int i = 0; i < flat.extentCount(); i++) {
            Extent extent = flat.extent(i);
            out.beginObject();
            out.name("start").value(extent.start());
            out.name("length").value(extent.length());
            out.name("source").value(extent.source().name());
            out.name("source_offset").value(extent.sourceOffset());
            out.endObject();
        }
        out.endArray();
        out.endObject();
    }
}

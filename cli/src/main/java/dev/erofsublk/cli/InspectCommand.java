// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import com.fasterxml.jackson.core.JsonGenerator;
import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** Shows what an image is made of and where each byte of the device comes from. */
@Command(
        name = "inspect",
        mixinStandardHelpOptions = true,
        description = "Show superblock, device table and extent map of an image.")
final class InspectCommand implements Callable<Integer> {
    @Mixin
    private SourceOptions source = new SourceOptions();

    @Option(names = "--json", description = "JSON instead of text.")
    private boolean json;

    @Override
    public Integer call() throws IOException {
        try (Image image = source.open()) {
            Description description = new Description();
            image.describe(description);
            if (json) {
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
            rows.getFirst().forEach((key, value) -> System.out.printf("  %-14s %s%n", key, text(value)));
        } else {
            TextTable.print(rows);
        }
        System.out.println();
    }

    static String text(Object value) {
        return value instanceof List<?> list
                ? String.join(" ", list.stream().map(String::valueOf).toList())
                : String.valueOf(value);
    }

    private static void printMap(FlatImage flat) {
        System.out.printf(
                "extents (%d, device of %d bytes, blocks of %d)%n", flat.extentCount(), flat.size(), flat.blockSize());
        System.out.printf("  %16s %16s %6s  %s%n", "start", "length", "share", "source");
        for (int i = 0; i < flat.extentCount(); i++) {
            Extent extent = flat.extent(i);
            System.out.printf(
                    "  %16d %16d %5.1f%%  %s%s%n",
                    extent.start(),
                    extent.length(),
                    100.0 * extent.length() / flat.size(),
                    extent.source().name(),
                    extent.sourceOffset() == 0 ? "" : " from byte " + extent.sourceOffset());
        }
    }

    private static void writeJson(JsonGenerator out, Image image, Description description) throws IOException {
        FlatImage flat = image.flat();
        out.writeStartObject();
        out.writeStringField("format", image.format());
        out.writeNumberField("size", flat.size());
        out.writeNumberField("block_size", flat.blockSize());
        for (Map.Entry<String, List<Map<String, Object>>> section :
                description.sections().entrySet()) {
            out.writeArrayFieldStart(section.getKey());
            for (Map<String, Object> row : section.getValue()) {
                out.writeStartObject();
                for (Map.Entry<String, Object> field : row.entrySet()) {
                    out.writeFieldName(field.getKey());
                    writeValue(out, field.getValue());
                }
                out.writeEndObject();
            }
            out.writeEndArray();
        }
        out.writeArrayFieldStart("extents");
        for (int i = 0; i < flat.extentCount(); i++) {
            Extent extent = flat.extent(i);
            out.writeStartObject();
            out.writeNumberField("start", extent.start());
            out.writeNumberField("length", extent.length());
            out.writeStringField("source", extent.source().name());
            out.writeNumberField("source_offset", extent.sourceOffset());
            out.writeEndObject();
        }
        out.writeEndArray();
        out.writeEndObject();
    }

    private static void writeValue(JsonGenerator out, Object value) throws IOException {
        switch (value) {
            case Integer n -> out.writeNumber(n);
            case Long n -> out.writeNumber(n);
            case Boolean b -> out.writeBoolean(b);
            case List<?> list -> {
                out.writeStartArray();
                for (Object each : list) {
                    writeValue(out, each);
                }
                out.writeEndArray();
            }
            default -> out.writeString(value.toString());
        }
    }
}

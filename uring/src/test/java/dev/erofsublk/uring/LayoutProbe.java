// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/**
 * Proves that numbers in Java are those of C: a table of C expressions with the value that Java has for each, compared
 * with a golden table made from a named kernel header, and with what gcc makes of the header installed here.
 *
 * <p>The golden table is made anew with {@code -Dlayout.include=HEADERS -Dlayout.golden=src/test/resources}.
 */
public final class LayoutProbe {
    private final String header;
    private final Map<String, Long> rows = new LinkedHashMap<>();
    private final Map<String, String> guards = new LinkedHashMap<>();

    /** @param header for example {@code linux/io_uring.h} */
    public LayoutProbe(String header) {
        this.header = header;
    }

    public LayoutProbe sizeOf(String type, long java) {
        return row("sizeof(" + type + ")", java);
    }

    public LayoutProbe offset(String type, String field, long java) {
        return row("__builtin_offsetof(" + type + ", " + field + ")", java);
    }

    /** A macro; left out of the comparison with an installed header that is too old to have it. */
    public LayoutProbe macro(String name, long java) {
        guards.put(name, name);
        return row(name, java);
    }

    /** An enumeration constant that came together with macro {@code since}. */
    public LayoutProbe constant(String name, String since, long java) {
        guards.put(name, since);
        return row(name, java);
    }

    public LayoutProbe constant(String name, long java) {
        return row(name, java);
    }

    private LayoutProbe row(String expression, long java) {
        assertThat(rows.put(expression, java)).as("row %s is new", expression).isNull();
        return this;
    }

    /** Compares with the golden table, a resource of {@code owner}. */
    public void matchesGolden(Class<?> owner, String resource) throws Exception {
        String write = System.getProperty("layout.golden");
        if (write != null) {
            StringBuilder table = new StringBuilder();
            new TreeMap<>(compiled(Optional.ofNullable(System.getProperty("layout.include"))))
                    .forEach((name, value) ->
                            table.append(name).append('\t').append(value).append('\n'));
            Files.writeString(Path.of(write + resource), table);
            return;
        }
        Map<String, Long> golden = new LinkedHashMap<>();
        try (InputStream in = owner.getResourceAsStream(resource)) {
            for (String line : new String(in.readAllBytes(), StandardCharsets.UTF_8).split("\n")) {
                if (!line.startsWith("#")) {
                    golden.put(
                            line.substring(0, line.indexOf('\t')),
                            Long.valueOf(line.substring(line.indexOf('\t') + 1)));
                }
            }
        }
        assertThat(golden).isNotEmpty();
        assertThat(new TreeMap<>(rows)).isEqualTo(new TreeMap<>(golden));
    }

    /** Compares with the header installed on this machine, as far as it goes. */
    public void matchesInstalledHeader() throws Exception {
        Map<String, Long> installed = compiled(Optional.empty());
        System.out.println(
                header + ": " + installed.size() + " of " + rows.size() + " rows are in the installed header");
        assertThat(installed.size()).as("rows compared").isGreaterThan(rows.size() / 2);
        Map<String, Long> expected = new TreeMap<>(rows);
        expected.keySet().retainAll(installed.keySet());
        assertThat(new TreeMap<>(installed)).isEqualTo(expected);
    }

    private Map<String, Long> compiled(Optional<String> include) throws IOException, InterruptedException {
        Path dir = Files.createTempDirectory("layout");
        try {
            Path source = Files.writeString(dir.resolve("probe.c"), program());
            Path binary = dir.resolve("probe");
            List<String> gcc = new ArrayList<>(List.of("gcc", "-w", "-o", binary.toString()));
            include.ifPresent(dirs -> gcc.addAll(List.of("-I" + dirs, "-I" + dirs + "/x86_64-linux-gnu")));
            gcc.add(source.toString());
            run(gcc);
            Map<String, Long> values = new LinkedHashMap<>();
            for (String line : run(List.of(binary.toString())).split("\n")) {
                int tab = line.indexOf('\t');
                values.put(line.substring(0, tab), Long.valueOf(line.substring(tab + 1)));
            }
            return values;
        } finally {
            try (var files = Files.list(dir)) {
                files.forEach(file -> {
                    try {
                        Files.delete(file);
                    } catch (IOException e) {
                        throw new UncheckedIOException(e);
                    }
                });
            }
            Files.delete(dir);
        }
    }

    private String program() {
        StringBuilder c =
                new StringBuilder("#include <stdio.h>\n#include <errno.h>\n#include <linux/ioctl.h>\n#include <"
                        + header + ">\nint main(void) {\n");
        rows.forEach((expression, java) -> {
            String guard = guards.get(expression);
            c.append(guard == null ? "" : "#ifdef " + guard + "\n");
            c.append("printf(\"%s\\t%lld\\n\", \"")
                    .append(expression)
                    .append("\", (long long)(")
                    .append(expression);
            c.append("));\n").append(guard == null ? "" : "#endif\n");
        });
        return c.append("return 0; }\n").toString();
    }

    private static String run(List<String> command) throws IOException, InterruptedException {
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertThat(process.waitFor()).as("%s: %s", command, output).isZero();
        return output;
    }
}

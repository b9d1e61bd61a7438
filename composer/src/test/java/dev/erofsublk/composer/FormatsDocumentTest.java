// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The tables of the documents name tests; here is whether these exist. */
class FormatsDocumentTest {
    private static final Path ROOT = root();
    private static final Pattern CODE = Pattern.compile("`([^`]+)`");
    private static final Pattern NAME = Pattern.compile("([A-Z]\\w*Test)(?:[.#](\\w+)(\\.\\.\\.)?)?");
    private static final Pattern MEMBER = Pattern.compile("[.#](\\w+)(\\.\\.\\.)?");

    private static Path root() {
        Path at = Path.of("").toAbsolutePath();
        while (!Files.exists(at.resolve("docs/formats.md"))) {
            at = at.getParent();
        }
        return at;
    }

    /** The source of every test class, by its name. */
    private static Map<String, String> tests() throws IOException {
        Map<String, String> tests = new HashMap<>();
        for (String module : List.of("composer", "cli")) {
            try (Stream<Path> files = Files.walk(ROOT.resolve(module).resolve("src/test/java"))) {
                for (Path file : files.filter(each -> each.toString().endsWith("Test.java"))
                        .toList()) {
                    tests.put(file.getFileName().toString().replace(".java", ""), Files.readString(file));
                }
            }
        }
        return tests;
    }

    private static boolean has(String source, String method, boolean prefix) {
        return Pattern.compile("void " + method + (prefix ? "\\w*" : "") + "\\(")
                .matcher(source)
                .find();
    }

    @ParameterizedTest
    @ValueSource(strings = {"formats.md", "formats-vmdk.md", "formats-vhd.md", "checks.md"})
    void everyTestThatADocumentNamesExists(String document) throws IOException {
        Map<String, String> tests = tests();
        List<String> missing = new ArrayList<>();
        int named = 0;
        String last = "";
        Matcher code = CODE.matcher(Files.readString(ROOT.resolve("docs").resolve(document)));
        while (code.find()) {
            Matcher name = NAME.matcher(code.group(1));
            Matcher member = MEMBER.matcher(code.group(1));
            String method;
            boolean prefix;
            if (name.matches()) {
                last = name.group(1);
                method = name.group(2);
                prefix = name.group(3) != null;
            } else if (member.matches() && !last.isEmpty()) {
                method = member.group(1);
                prefix = member.group(2) != null;
                if (method.length() < 8) {
                    continue; // `.vhd`
                }
            } else {
                continue;
            }
            named++;
            String source = tests.get(last);
            if (source == null || (method != null && !has(source, method, prefix))) {
                missing.add(code.group(1) + " of " + last);
            }
        }
        assertThat(missing).as("%d names of tests in %s", named, document).isEmpty();
        assertThat(named).isGreaterThan(5);
    }

    @Test
    void noRowOfTheTablesIsWithoutATest() throws IOException {
        int rows = 0;
        for (String line : Files.readAllLines(ROOT.resolve("docs/formats.md"))) {
            if (line.startsWith("| VMDK |") || line.startsWith("| VHDX |")) {
                rows++;
                String tests = line.split("(?<!\\\\)\\|", -1)[4];
                assertThat(CODE.matcher(tests).results().map(found -> found.group(1)))
                        .as(line)
                        .anyMatch(name -> NAME.matcher(name).matches());
            }
        }
        assertThat(rows).isGreaterThan(90);
    }
}

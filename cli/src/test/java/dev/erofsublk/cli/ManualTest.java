// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine.Model.OptionSpec;

class ManualTest {
    @TempDir
    private Path dir;

    @BeforeEach
    void write() throws Exception {
        Manual.write(dir);
    }

    @Test
    void everyCommandHasAPageWithAllItsOptions() throws Exception {
        String program = Files.readString(dir.resolve("erofs-ublk.1"));
        for (String name : Main.COMMANDS.keySet()) {
            String page = Files.readString(dir.resolve("erofs-ublk-" + name + ".1"));
            for (OptionSpec option : Main.COMMANDS.get(name).get().spec().options()) {
                String longest = option.longestName().replace("-", "\\-");
                assertThat(page).as("page of %s", name).contains("\\fB" + longest + "\\fR");
            }
            assertThat(program).contains("erofs\\-ublk\\-" + name);
        }
        try (Stream<Path> pages = Files.list(dir)) {
            assertThat(pages).hasSize(Main.COMMANDS.size() + 1);
        }
    }

    @Test
    void troffFindsNothingWrongWithAnyPage() throws Exception {
        assumeTrue(
                Files.isExecutable(Path.of("/usr/bin/groff")), "there is no groff on this machine to judge the pages");
        try (Stream<Path> pages = Files.list(dir)) {
            for (Path page : pages.toList()) {
                Process groff = new ProcessBuilder("groff", "-man", "-ww", "-z", page.toString())
                        .redirectErrorStream(true)
                        .start();
                assertThat(new String(groff.getInputStream().readAllBytes())).isEmpty();
                assertThat(groff.waitFor()).isZero();
            }
        }
    }
}

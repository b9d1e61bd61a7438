// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonElement;
import dev.erofsublk.composer.TestImages.Kind;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What the command line says and how it ends, as far as no kernel with ublk is needed. */
class CommandLineTest {
    @TempDir
    private Path dir;

    record Outcome(int status, String out, String err) {}

    @Test
    void everyCommandOfTheHelpIsThereByItsName() {
        List<String> names = Pattern.compile("^  ([a-z]+) {2,}", Pattern.MULTILINE)
                .matcher(run("--help").out)
                .results()
                .map(match -> match.group(1))
                .toList();
        assertThat(names).hasSize(16).contains("add", "nbd", "explain");
        for (String name : names) {
            assertThat(run(name, "--help").out).startsWith("Usage: erofs-ublk " + name + " ");
            assertThat(run(name, "--version").out)
                    .isEqualTo(run("--version").out)
                    .startsWith("erofs-ublk ");
        }
    }

    @Test
    void wrongUsageIsOneLineAndStatusTwo() {
        assertUsage("no command given (see 'erofs-ublk --help')");
        assertUsage("Unmatched argument at index 0: 'mount' (see 'erofs-ublk --help')", "mount");
        assertUsage("-d is 0, expected 1 to 4096 (see 'erofs-ublk add --help')", "add", "-d", "0", "--blobs", "x");
        assertUsage(
                "-q is 5000, expected 1 to 4096 (see 'erofs-ublk add --help')", "add", "-q", "5000", "--blobs", "x");
        assertUsage(
                "--unprivileged goes without --backend nbd (see 'erofs-ublk add --help')",
                "add",
                "--unprivileged",
                "--backend",
                "nbd",
                "--blobs",
                "x");
        assertUsage(
                "--no-recovery and --fail-io go without --foreground (see 'erofs-ublk add --help')",
                "add",
                "--fail-io",
                "--foreground",
                "--blobs",
                "x");
        assertUsage("-n is -7, expected 0 to 1048575 (see 'erofs-ublk add --help')", "add", "-n", "-7", "--blobs", "x");
        assertUsage(
                "Invalid value for option '--data-path': is 'mmap', expected auto, direct or zero-copy (see"
                        + " 'erofs-ublk add --help')",
                "add",
                "--blobs",
                "x",
                "--data-path",
                "mmap");
        assertUsage(
                "--spin is 1001, expected 0 to 1000 (see 'erofs-ublk add --help')",
                "add",
                "--spin",
                "1001",
                "--blobs",
                "x");
        assertUsage(
                "--data-path goes with --backend ublk (see 'erofs-ublk add --help')",
                "add",
                "--blobs",
                "x",
                "--backend",
                "nbd",
                "--data-path",
                "zero-copy");
        for (String address : new String[] {"x", "0", "70000", "127.0.0.1", "127.0.0.1:", ":9100", "::1:9100x", ""}) {
            assertUsage(
                    "--metrics is '" + address + "', expected HOST:PORT or PORT, with a PORT from 1 to 65535 (see"
                            + " 'erofs-ublk serve --help')",
                    "serve",
                    "--metrics",
                    address);
        }
        assertUsage(
                "no image given: name it with --blobs DIR, --meta FILE --blob FILE ..., or --image FILE (see 'erofs-ublk"
                        + " inspect --help')",
                "inspect");
        assertUsage(
                "--blob goes with --meta, not with --blobs (see 'erofs-ublk inspect --help')",
                "inspect",
                "--blobs",
                "x",
                "--blob",
                "y");
    }

    @Test
    void whatIsMissingTooMuchOrOfAnotherTypeIsNamed() {
        assertUsage("Missing required option: '--number=DEVICE' (see 'erofs-ublk owner --help')", "owner");
        assertUsage("Missing required parameter: 'PATH' (see 'erofs-ublk cat --help')", "cat", "--image", "x");
        assertUsage(
                "Error: Missing required argument (specify one of these): (-n=DEVICE | -a) (see 'erofs-ublk del"
                        + " --help')",
                "del");
        assertUsage(
                "Error: --raw=OUT, --vhd=OUT are mutually exclusive (specify only one) (see 'erofs-ublk export --help')",
                "export",
                "--raw",
                "x",
                "--vhd",
                "y");
        assertUsage(
                "Error: --standby, --takeover are mutually exclusive (specify only one) (see 'erofs-ublk serve --help')",
                "serve",
                "--standby",
                "--takeover");
        assertUsage("Unmatched argument at index 0: 'x' (see 'erofs-ublk purge --help')", "purge", "x");
        assertUsage("Unknown option: '--nope' (see 'erofs-ublk list --help')", "list", "--nope");
        assertUsage(
                "Invalid value for option '--interval': 'x' is not a double (see 'erofs-ublk top --help')",
                "top",
                "-i",
                "x");
        assertUsage(
                "Invalid value for option '--backend': expected one of [UBLK, NBD] (case-insensitive) but was 'loop'"
                        + " (see 'erofs-ublk add --help')",
                "add",
                "--backend",
                "loop");
        assertUsage(
                "--salt goes with --verity (see 'erofs-ublk export --help')",
                "export",
                "--raw",
                "x",
                "--verity=false",
                "--salt",
                "00");
    }

    @Test
    void anImageThatIsRefusedIsOneLineThatNamesItAndStatusOne() throws Exception {
        Path text = Files.writeString(dir.resolve("notes.txt"), "no image\n".repeat(500));
        assertRefused(
                dir + "/missing: --blobs is missing, expected a directory with a metadata image and its blobs",
                "inspect",
                "--blobs",
                dir + "/missing");
        assertRefused(
                dir + ": metadata image is missing, expected a file with an EROFS superblock",
                "inspect",
                "--blobs",
                dir.toString());
        assertRefused(
                text + ": superblock.magic is 0x6f6e0a65, expected 0xe0f5e1e2 at byte 1024, an EROFS image",
                "inspect",
                "--meta",
                text.toString());
        assertRefused(
                "open(" + dir + "/gone): No such file or directory [ENOENT]", "inspect", "--image", dir + "/gone");
    }

    @Test
    void aNameWithALineBreakForgesNoSecondLine() throws Exception {
        Path odd = Files.writeString(dir.resolve("odd\nname: all is well"), "x");
        Outcome outcome = run("inspect", "--meta", odd.toString());
        assertThat(outcome.status).isEqualTo(1);
        assertThat(outcome.err.lines()).hasSize(1);
    }

    @Test
    void inspectShowsSuperblockSlotsAndExtents() {
        Outcome outcome = run(with("inspect", Kind.B.sourceOptions()));
        assertThat(outcome.err).isEmpty();
        assertThat(outcome.status).isZero();
        assertThat(outcome.out)
                .contains("superblock")
                .contains("block_size     4096")
                .contains("features       device-table")
                .contains("l2.erofs")
                .contains("extents (4; device of 13.5 MiB, 14127104 bytes, in blocks of 4096)");
    }

    @Test
    void inspectAsJsonIsOneDocument() throws Exception {
        Outcome outcome = run(with("inspect", Kind.A.sourceOptions(), "--json"));
        assertThat(outcome.status).isZero();
        Set<String> fields = new HashSet<>();
        collectFields(StrictJson.parse(outcome.out), fields);
        assertThat(fields).contains("format", "size", "superblock", "uuid", "slots", "tag", "extents", "source_offset");
    }

    private static void collectFields(JsonElement element, Set<String> fields) {
        if (element.isJsonArray()) {
            element.getAsJsonArray().forEach(each -> collectFields(each, fields));
        } else if (element.isJsonObject()) {
            element.getAsJsonObject().entrySet().forEach(field -> {
                fields.add(field.getKey());
                collectFields(field.getValue(), fields);
            });
        }
    }

    @Test
    void withoutUblkTheMachineIsToldWhatIsMissing() {
        org.junit.jupiter.api.Assumptions.assumeFalse(
                Files.exists(Path.of("/dev/ublk-control")), "this machine has ublk, so nothing is missing");
        for (String command : List.of("list", "features", "del -n 0")) {
            Outcome outcome = run(command.split(" "));
            assertThat(outcome.status).isEqualTo(1);
            assertThat(outcome.err)
                    .isEqualTo("erofs-ublk: /dev/ublk-control is missing: load the kernel module with 'modprobe"
                            + " ublk_drv' (Linux 6.0 or newer)\n");
        }
    }

    private static void assertUsage(String sentence, String... args) {
        assertOutcome(2, sentence, args);
    }

    private static void assertRefused(String sentence, String... args) {
        assertOutcome(1, sentence, args);
    }

    private static void assertOutcome(int status, String sentence, String... args) {
        Outcome outcome = run(args);
        assertThat(outcome.err).as(Arrays.toString(args)).isEqualTo("erofs-ublk: " + sentence + "\n");
        assertThat(outcome.out).isEmpty();
        assertThat(outcome.status).isEqualTo(status);
    }

    private static String[] with(String command, List<String> options, String... more) {
        List<String> args = new ArrayList<>(List.of(command));
        args.addAll(options);
        args.addAll(List.of(more));
        return args.toArray(String[]::new);
    }

    static synchronized Outcome run(String... args) {
        PrintStream out = System.out;
        PrintStream err = System.err;
        ByteArrayOutputStream outBytes = new ByteArrayOutputStream();
        ByteArrayOutputStream errBytes = new ByteArrayOutputStream();
        System.setOut(new PrintStream(outBytes, true));
        System.setErr(new PrintStream(errBytes, true));
        try {
            int status = Main.execute(args);
            return new Outcome(status, outBytes.toString(), errBytes.toString());
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
    }
}

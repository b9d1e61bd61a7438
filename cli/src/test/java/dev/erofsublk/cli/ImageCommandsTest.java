// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;

import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.Zeros;
import dev.erofsublk.composer.disk.QemuImg;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The commands that look into an image or write it out: what they print, and how they end. */
class ImageCommandsTest {
    @TempDir
    private Path dir;

    private record Outcome(int status, String out, String err) {}

    // ---- export ----

    @ParameterizedTest
    @EnumSource(mode = EnumSource.Mode.EXCLUDE, names = "OLD")
    void exportWritesThePlainConcatenation(Kind kind) throws Exception {
        Path out = dir.resolve("out");
        Outcome outcome = run("export", kind, "--raw", out.toString());
        assertThat(outcome).isEqualTo(new Outcome(0, "", ""));
        assertThat(Files.mismatch(out, kind.raw())).isEqualTo(-1);
    }

    @Test
    void exportRefusesAnExistingFileUnlessForced() throws Exception {
        Path out = Files.writeString(dir.resolve("out"), "precious");
        Outcome refused = run("export", Kind.C, "--raw", out.toString());
        assertThat(refused.status).isEqualTo(1);
        assertThat(refused.err).isEqualTo("erofs-ublk: " + out + ": it exists already; --force would replace it\n");
        assertThat(out).hasContent("precious");
        assertThat(run("export", Kind.C, "--raw", out.toString(), "--force").status)
                .isZero();
    }

    @Test
    void exportWithVerityPrintsRootHashAndCommand() {
        Path out = dir.resolve("o'ut");
        Outcome outcome = run("export", Kind.B, "--raw", out.toString(), "--verity", "--salt", "00ff");
        assertThat(outcome.status).as(outcome.err).isZero();
        List<String> lines = outcome.out.lines().toList();
        assertThat(lines).hasSize(2);
        assertThat(lines.get(0)).matches("root hash  [0-9a-f]{64}");
        String quoted = "'" + dir + "/o'\\''ut'";
        assertThat(lines.get(1))
                .isEqualTo("veritysetup open %s NAME %s %s --no-superblock --format=1 --hash=sha256"
                                .formatted(quoted, quoted, lines.get(0).substring(11))
                        + " --data-block-size=4096 --hash-block-size=4096 --data-blocks=3449"
                        + " --hash-offset=14127104 --salt=00ff");
    }

    @Test
    void exportWritesAVmdkDescriptorThatReadsAsTheDevice() throws Exception {
        Path vmdk = dir.resolve("out.vmdk");
        assertThat(run("export", Kind.B, "--vmdk-desc", vmdk.toString())).isEqualTo(new Outcome(0, "", ""));
        Path raw = dir.resolve("raw");
        Outcome back = run(
                "export",
                "--image",
                vmdk.toString(),
                "--allow-dir",
                Kind.B.directory().toString(),
                "--raw",
                raw.toString());
        assertThat(back).isEqualTo(new Outcome(0, "", ""));
        assertThat(Files.mismatch(raw, Kind.B.raw())).isEqualTo(-1);
        assertThat(run("export", Kind.B, "--vmdk-desc", vmdk.toString()).err)
                .endsWith("it exists already; --force would replace it\n");
        assertThat(run("export", Kind.B, "--vmdk-desc", vmdk.toString(), "--verity").status)
                .isEqualTo(2);
    }

    /** Made by erofs-utils, written by us, read by QEMU: one content. */
    @ParameterizedTest
    @EnumSource
    void qemuReadsEveryFormatThatExportWrites(Kind kind) throws Exception {
        Path raw = dir.resolve("out.raw");
        assertThat(run("export", kind, "--raw", raw.toString()).status).isZero();
        for (String[] form : new String[][] {
            {"--vmdk-desc", "out.vmdk", "vmdk"}, {"--vmdk", "stream.vmdk", "vmdk"}, {"--vhd", "out.vhd", "vpc"}
        }) {
            Path out = dir.resolve(form[1]);
            assertThat(run("export", kind, form[0], out.toString())).isEqualTo(new Outcome(0, "", ""));
            QemuImg.assertSame(raw, form[2], out);
            Outcome again = run("export", kind, form[0], out.toString());
            assertThat(again.err).isEqualTo("erofs-ublk: " + out + ": it exists already; --force would replace it\n");
            assertThat(again.status).isEqualTo(1);
            assertThat(run("export", kind, form[0], out.toString(), "--force").status)
                    .isZero();
            QemuImg.assertSame(raw, form[2], out);
        }
        try (Stream<Path> files = Files.list(dir)) {
            assertThat(files.map(file -> file.getFileName().toString()))
                    .contains("out.raw", "out.vmdk", "stream.vmdk", "out.vhd")
                    .noneMatch(name -> name.startsWith("."));
        }
    }

    @Test
    void exportKnowsWrongUsage() {
        assertThat(run("export", Kind.C, "--raw", "x", "--salt", "00").err).contains("--salt goes with --verity");
        assertThat(run("export", Kind.C, "--raw", "x", "--verity", "--salt", "0").status)
                .isEqualTo(2);
        assertThat(run("export", Kind.C).status).isEqualTo(2);
    }

    // ---- ls and cat ----

    @Test
    void catWritesAFileThroughALink() {
        Outcome outcome = run("cat", Kind.B, "/etc/release");
        assertThat(outcome).isEqualTo(new Outcome(0, "of l3\n", ""));
    }

    @Test
    void catOfWhatIsNoFileFails() {
        assertThat(run("cat", Kind.B, "/etc").err).isEqualTo("erofs-ublk: /etc: not a regular file\n");
        assertThat(run("cat", Kind.B, "/gone").err).isEqualTo("erofs-ublk: /gone: no such file in the image\n");
    }

    @Test
    void lsListsNamesOrAllThatThereIs() {
        assertThat(run("ls", Kind.B, "/").out.lines()).containsExactly("data", "etc", "usr");
        assertThat(run("ls", Kind.B, "-a", "/etc").out.lines()).startsWith(".", "..", "dangling-l1");
        assertThat(run("ls", Kind.B, "-l", "/etc").out.lines())
                .contains("-rw-r--r--   1  1000  2000           3 2023-11-14T22:13:20Z l1.conf")
                .contains("lrwxrwxrwx   1 65534 65534          15 2023-11-14T22:13:20Z link-l1 -> ../data/l1-4096");
        assertThat(run("ls", Kind.B, "-l", "/data/l1-513").out).startsWith("-rwsr-xr-x   1     0     0         513");
    }

    // ---- verify ----

    @ParameterizedTest
    @EnumSource
    void verifyFindsNothingWrongWithASoundImage(Kind kind) {
        Outcome outcome = run("verify", kind);
        assertThat(outcome.err).isEmpty();
        assertThat(outcome.out).endsWith("ok\n").containsPattern("inodes +\\d\\d+");
        assertThat(outcome.status).isZero();
    }

    @Test
    void verifyListsWhatIsWrong() throws Exception {
        Path one = withTail(Kind.B2.blobs().get(0));
        Path three = withTail(Kind.B2.blobs().get(2));
        String[] args = {
            "verify",
            "--meta",
            Kind.B2.meta().toString(),
            "--blob",
            three.toString(),
            "--blob",
            Kind.B2.blobs().get(1).toString(),
            "--blob",
            one.toString()
        };
        Outcome outcome = run(args);
        assertThat(outcome.status).isEqualTo(1);
        assertThat(outcome.out.lines().filter(line -> line.startsWith("problem: ")))
                .hasSizeGreaterThan(20)
                .anySatisfy(line -> assertThat(line).contains("is it the tar that was indexed? (/data/l1-"));
        assertThat(outcome.out).containsPattern("\n\\d+ problems\n$");

        List<String> more = new ArrayList<>(List.of(args));
        more.add("--json");
        Outcome json = run(more.toArray(String[]::new));
        assertThat(json.status).isEqualTo(1);
        assertJson(json.out);
        assertThat(json.out).contains("\"ok\": false").contains("\"path\": \"/data/l1-");
    }

    @Test
    void verifyReportsARefusalToo() throws Exception {
        Path text = Files.writeString(dir.resolve("text"), "no image");
        Outcome outcome = run("verify", "--meta", text.toString());
        assertThat(outcome.status).isEqualTo(1);
        assertThat(outcome.out)
                .contains("problem: " + text + ": superblock.magic is missing")
                .endsWith("1 problem\n");
    }

    @Test
    void verifyComparesABlobWithTheDigestThatIsItsTag() throws Exception {
        // the table of a sound image gets a digest for its tag
        byte[] blob = Files.readAllBytes(Kind.C.blobs().getFirst());
        byte[] meta = Files.readAllBytes(Kind.C.meta());
        String digest =
                HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(blob));
        System.arraycopy(digest.getBytes(StandardCharsets.US_ASCII), 0, meta, 1152, 64);
        meta[1032] &= ~1; // no checksum
        Files.write(dir.resolve("meta"), meta);
        Path file = Files.write(dir.resolve(digest), blob);
        Outcome right = run("verify", "--blobs", dir.toString());
        assertThat(right.out).endsWith("ok\n").containsPattern("bytes_with_digests +[1-9]");
        blob[blob.length / 2] ^= 1;
        Files.write(file, blob);
        Outcome wrong = run("verify", "--blobs", dir.toString());
        assertThat(wrong.status).isEqualTo(1);
        assertThat(wrong.out).contains("problem: " + file + ": sha256 is ").contains(digest + ", the tag of slot 1");
    }

    @Test
    void verifyDecodesEveryGrainOfACompressedDisk() throws Exception {
        Path disk = dir.resolve("disk.vmdk");
        assertThat(run("export", Kind.C, "--vmdk", disk.toString()).status).isZero();
        String[] verify = {
            "verify",
            "--image",
            disk.toString(),
            "--cache",
            dir.resolve("cache").toString()
        };
        assertThat(run(verify).out).endsWith("ok\n").containsPattern("bytes_with_digests +[1-9]");
        byte[] bytes = Files.readAllBytes(disk);
        bytes[bytes.length / 2] ^= 1;
        bytes[bytes.length / 4] ^= 1;
        Files.write(disk, bytes);
        Outcome outcome = run(verify);
        assertThat(outcome.status).isEqualTo(1);
        assertThat(outcome.out)
                .endsWith("2 problems\n")
                .containsPattern("problem: " + disk + ": compressed grain of sector \\d+ is damaged");
    }

    // ---- explain ----

    @Test
    void explainLeadsFromPathToSectorAndBack() throws Exception {
        Outcome path = run("explain", Kind.B, "--path", "/data/l2-4096", "--json");
        assertJson(path.out);
        String sector = path.out.replaceAll("(?s).*\"sector\": (\\d+).*", "$1");
        assertThat(path.out).contains("slot 2, ").contains(Kind.B.blobs().get(1).toString());
        Outcome back = run("explain", Kind.B, "--sector", sector, "--json");
        assertJson(back.out);
        assertThat(back.out)
                .containsPattern("\"paths\": \\[\\s+\"/data/l2-4096\"\\s+]")
                .contains("slot 2, ");
        Outcome text = run("explain", Kind.B, "--sector", sector);
        assertThat(text.out).containsPattern("source +" + Kind.B.blobs().get(1)).contains("/data/l2-4096");
    }

    @Test
    void explainNamesTheStructuresOfASector() {
        assertThat(run("explain", Kind.B, "--sector", "2").out)
                .containsPattern("structures +superblock device slot 1 device slot 2 device slot 3");
    }

    @Test
    void explainRefusesASectorBehindTheDevice() {
        Outcome outcome = run("explain", Kind.B, "--sector", "27592");
        assertThat(outcome.status).isEqualTo(1);
        assertThat(outcome.err).isEqualTo("erofs-ublk: --sector is 27592, expected less than 27592, the device's\n");
    }

    // ---- inspect ----

    @Test
    void inspectDrawsWhereOnTheDeviceAnExtentIs() {
        assertThat(run("inspect", Kind.B).out)
                .contains("4698112 ..  9449472    4.5 MiB   33.6%  |.............##############.............|  ");
        assertThat(InspectCommand.bar(new Extent(0, 512, Zeros.INSTANCE, 0), 1 << 30))
                .isEqualTo("-" + ".".repeat(39));
        assertThat(InspectCommand.bar(new Extent((1 << 30) - 512, 512, Zeros.INSTANCE, 0), 1 << 30))
                .isEqualTo(".".repeat(39) + "-");
    }

    @Test
    void inspectShowsWhatWasRepairedAndWhatIsCut() throws Exception {
        assertThat(run("inspect", Kind.OLD).out)
                .contains("slot 1: uniaddr 0, blocks 0 served as uniaddr 5, blocks 3072");
        Path blob = withTail(Kind.C.blobs().getFirst());
        assertThat(run("inspect", "--meta", Kind.C.meta().toString(), "--blob", blob.toString()).out)
                .containsPattern("bytes_cut +1048576");
    }

    // ---- helpers ----

    private Path withTail(Path blob) throws Exception {
        Path copy = Files.copy(blob, dir.resolve(blob.getFileName()));
        return Files.write(copy, new byte[1 << 20], StandardOpenOption.APPEND);
    }

    private static void assertJson(String text) {
        assertThatCode(() -> StrictJson.parse(text)).doesNotThrowAnyException();
    }

    private static Outcome run(String command, Kind kind, String... more) {
        return run(Stream.of(Stream.of(command), kind.sourceOptions().stream(), Stream.of(more))
                .flatMap(each -> each)
                .toArray(String[]::new));
    }

    private static synchronized Outcome run(String... args) {
        PrintStream out = System.out;
        PrintStream err = System.err;
        ByteArrayOutputStream outBytes = new ByteArrayOutputStream();
        ByteArrayOutputStream errBytes = new ByteArrayOutputStream();
        System.setOut(new PrintStream(outBytes, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(errBytes, true, StandardCharsets.UTF_8));
        try {
            int status = Main.execute(args);
            return new Outcome(
                    status, outBytes.toString(StandardCharsets.UTF_8), errBytes.toString(StandardCharsets.UTF_8));
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.Source;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.erofs.fs.ErofsFileSystem;
import dev.erofsublk.composer.erofs.fs.Walk;
import dev.erofsublk.composer.erofs.fs.WalkReport;
import dev.erofsublk.composer.rafs.RafsImage;
import dev.erofsublk.composer.source.ImageDigests;
import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Runs every check there is, without a device. */
final class VerifyCommand extends Command {
    private static final long PROGRESS_MILLIS = 200;

    private final SourceOptions source = new SourceOptions(this);

    private final Option<Boolean> json = flag("--json", "JSON instead of text.");

    private final List<WalkReport.Problem> problems = new ArrayList<>();
    private final Map<String, Object> checked = new LinkedHashMap<>();
    private long more;

    VerifyCommand() {
        super(
                "verify",
                "Check an image and its blobs: geometry, identity, every file, and digests where there are any.");
        footer("Exit status 0 if all is in order; 1 if not, with all that is wrong on stdout.");
    }

    @Override
    public Integer call() throws IOException, InterruptedException {
        try (Image image = source.open()) {
            checked.put("extents", image.flat().extentCount());
            checked.put("device_bytes", image.flat().size());
            if (ErofsFileSystem.isOn(image.flat())) {
                walk(ErofsSource.open(image));
            }
            if (image instanceof RafsImage rafs) {
                describe(rafs.erofs());
            } else if (image instanceof ErofsImage erofs) {
                describe(erofs);
            }
            digests(ImageDigests.of(image));
            changes(image);
        } catch (ImageException refused) {
            add(refused.getMessage());
        }
        report();
        return problems.isEmpty() ? 0 : 1;
    }

    private void add(String message) {
        problems.add(new WalkReport.Problem("", message));
    }

    private void describe(ErofsImage image) {
        checked.put("slots", image.devices().size());
        checked.put("repairs", image.repairs());
    }

    private void walk(ErofsFileSystem fs) throws InterruptedException {
        if (fs.superblock().hasMetabox()) {
            checked.put("files", "not looked at: their inodes are in a metabox");
            return;
        }
        Walk walk = Walk.start(fs, Runtime.getRuntime().availableProcessors());
        try (ProgressLine progress = new ProgressLine("walking", 0)) {
            WalkReport report = await(walk, progress);
            checked.put("inodes", report.inodes());
            checked.put("directories", report.directories());
            checked.put("chunks", report.chunks());
            checked.put("content_bytes", report.bytes());
            checked.put("walk_millis", report.millis());
            problems.addAll(report.problems());
            more = report.moreProblems();
        }
    }

    private static WalkReport await(Walk walk, ProgressLine progress) throws InterruptedException {
        while (true) {
            try {
                return walk.report().get(PROGRESS_MILLIS, TimeUnit.MILLISECONDS);
            } catch (TimeoutException goesOn) {
                progress.show("walking  %d inodes".formatted(walk.inodesSoFar()));
            } catch (ExecutionException e) {
                throw new IllegalStateException(e.getCause());
            }
        }
    }

    private void digests(ImageDigests digests) throws IOException {
        long bytes = digests.bytes();
        checked.put("bytes_with_digests", bytes);
        try (ProgressLine progress = new ProgressLine("digests", bytes)) {
            if (!digests.check(progress, this::add)) {
                add("after %d chunks that are wrong no others were looked at".formatted(ImageDigests.PROBLEMS));
            }
        }
    }

    private void changes(Image image) throws IOException {
        for (Source each : image.flat().sources()) {
            if (each instanceof Blob blob) {
                blob.changed().ifPresent(change -> add(change.getMessage()));
            }
        }
    }

    private void report() throws IOException {
        if (json.isGiven()) {
            JsonOutput.print(out -> {
                out.beginObject();
                out.name("ok").value(problems.isEmpty());
                out.name("checked");
                JsonOutput.writeRow(out, checked);
                out.name("problems").beginArray();
                for (WalkReport.Problem problem : problems) {
                    out.beginObject();
                    if (!problem.path().isEmpty()) {
                        out.name("path").value(problem.path());
                    }
                    out.name("message").value(problem.message());
                    out.endObject();
                }
                out.endArray();
                out.name("more_problems").value(more);
                out.endObject();
            });
            return;
        }
        checked.forEach((key, value) -> System.out.printf("  %-20s %s%n", key, TextTable.text(value)));
        for (WalkReport.Problem problem : problems) {
            String where = problem.path().isEmpty() ? "" : " (" + LsCommand.printable(problem.path()) + ")";
            System.out.println("problem: " + problem.message() + where);
        }
        System.out.println(
                problems.isEmpty()
                        ? "ok"
                        : problems.size() + more + (problems.size() + more == 1 ? " problem" : " problems"));
    }
}

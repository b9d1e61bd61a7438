// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.source;

import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.erofs.fs.ErofsFileSystem;
import dev.erofsublk.composer.erofs.fs.Walk;
import dev.erofsublk.composer.erofs.fs.WalkReport;
import dev.erofsublk.composer.rafs.RafsImage;
import dev.erofsublk.composer.verity.VerityImage;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import org.jspecify.annotations.Nullable;

/**
 * What opening an image leaves to be checked before it may be served: that every inode and chunk of a composed file
 * system is where its metadata say. Done beside whatever else has to be made ready, in time that grows with the number
 * of inodes and chunks (about 1 s for a million, docs/checks.md).
 *
 * <p>Disk images (raw, VMDK, VHDX, VHD) hold what their owner put there, damaged or not: nothing of that is ours to
 * judge. Images whose inodes are in a metabox are served as they are, because their inodes cannot be read here.
 */
public final class ImageCheck implements AutoCloseable {
    private static final int THREADS = 4;

    private final String name;
    private final @Nullable Walk walk;

    private ImageCheck(String name, @Nullable Walk walk) {
        this.name = name;
        this.walk = walk;
    }

    /**
     * Starts to check {@code image}, which must stay open until this is closed.
     *
     * @throws ImageException if there is not even a file system to begin with
     */
    public static ImageCheck start(Image image) throws IOException {
        ErofsImage composed = composed(image);
        if (composed == null) {
            return new ImageCheck(image.format(), null);
        }
        String name = composed.meta().name();
        ErofsFileSystem fs = ErofsFileSystem.open(name, image.flat());
        if (fs.superblock().hasMetabox()) {
            return new ImageCheck(name, null);
        }
        return new ImageCheck(
                name, Walk.start(fs, Math.min(THREADS, Runtime.getRuntime().availableProcessors())));
    }

    private static @Nullable ErofsImage composed(Image image) {
        if (image instanceof VerityImage verity) {
            return composed(verity.image());
        }
        if (image instanceof RafsImage rafs) {
            return rafs.erofs();
        }
        return image instanceof ErofsImage erofs ? erofs : null;
    }

    /**
     * Waits for the end of it.
     *
     * @throws ImageException naming the first thing that would read wrong, and saying how many more there are
     */
    public void require() throws IOException {
        if (walk == null) {
            return;
        }
        WalkReport report = await(walk);
        if (!report.clean()) {
            WalkReport.Problem first = report.problems().getFirst();
            throw refusal(name, first.toString(), report.problems().size() + report.moreProblems() - 1);
        }
    }

    /**
     * Also compares all content with the digests that the format has; reads everything.
     *
     * @throws ImageException naming the first that is wrong
     */
    public void requireContents(Image image) throws IOException {
        List<String> problems = new ArrayList<>();
        ImageDigests.of(image).check(done -> {}, problems::add);
        if (!problems.isEmpty()) {
            throw refusal(name, problems.getFirst(), problems.size() - 1);
        }
    }

    private static ImageException refusal(String name, String first, long more) {
        String others = more == 0 ? "" : "; and %d more, which 'erofs-ublk verify' lists".formatted(more);
        return new ImageException(name, first + others);
    }

    private static WalkReport await(Walk walk) throws IOException {
        try {
            return walk.report().get();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted while checking", e);
        } catch (ExecutionException e) {
            throw new IllegalStateException(e.getCause());
        }
    }

    /** Ends it, whether it was waited for or not. */
    @Override
    public void close() {
        if (walk != null) {
            walk.cancel();
            walk.report().exceptionally(failed -> null).join();
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.source;

import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.RawImage;
import dev.erofsublk.composer.cache.CacheDirectory;
import dev.erofsublk.composer.erofs.ErofsImages;
import dev.erofsublk.composer.probe.Format;
import dev.erofsublk.composer.probe.Probe;
import dev.erofsublk.composer.rafs.BlobFinder;
import dev.erofsublk.composer.rafs.RafsImage;
import dev.erofsublk.composer.verity.Salt;
import dev.erofsublk.composer.verity.VerityImage;
import dev.erofsublk.composer.vhd.VhdImage;
import dev.erofsublk.composer.vhdx.VhdxImage;
import dev.erofsublk.composer.vmdk.VmdkImage;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/**
 * What names an image: a directory, a metadata file with its blobs, or one file; and what is needed to read it.
 *
 * <p>Just what a user said: opening it twice composes the same image, if the files are the same.
 *
 * @param blobs a directory in which blobs are found by their tags, alone or with {@code meta}
 * @param meta the metadata image, with {@code blobs} or {@code blob}
 * @param blob the blobs in the order of the device table
 * @param image an image in one file, which goes alone
 * @param format the format of {@code image}; null to tell it by name and content (see {@link Probe})
 * @param allowed directories in which a disk image may refer to other files, beside its own
 * @param cache where decoded chunks are kept; null for {@link #defaultCache()}
 * @param verity the salt of a dm-verity tree that the device is to have behind its data; null for no tree
 */
public record ImageSource(
        @Nullable Path blobs,
        @Nullable Path meta,
        List<Path> blob,
        @Nullable Path image,
        @Nullable Format format,
        List<Path> allowed,
        @Nullable Path cache,
        @Nullable Salt verity) {
    public ImageSource {
        boolean one = image != null && blobs == null && meta == null && blob.isEmpty();
        boolean directory = image == null && blobs != null && blob.isEmpty();
        boolean files = image == null && blobs == null && meta != null;
        if (!one && !directory && !files) {
            throw new IllegalArgumentException("not one of image; blobs and perhaps meta; meta and blob");
        }
        blob = List.copyOf(blob);
        allowed = List.copyOf(allowed);
    }

    /** An image without a dm-verity tree. */
    public ImageSource(
            @Nullable Path blobs,
            @Nullable Path meta,
            List<Path> blob,
            @Nullable Path image,
            @Nullable Format format,
            List<Path> allowed,
            @Nullable Path cache) {
        this(blobs, meta, blob, image, format, allowed, cache, null);
    }

    /** The same, with a dm-verity tree behind its data. */
    public ImageSource withVerity(Salt salt) {
        return new ImageSource(blobs, meta, blob, image, format, allowed, cache, salt);
    }

    /** An image in one file whose format is told by name and content. */
    public static ImageSource ofFile(Path image) {
        return new ImageSource(null, null, List.of(), image, null, List.of(), null);
    }

    /** {@code /var/cache/erofs-ublk} for root, the user's own cache for others. */
    public static Path defaultCache() {
        if (Objects.equals(System.getProperty("user.name"), "root")) {
            return Path.of("/var/cache/erofs-ublk");
        }
        String xdg = System.getenv("XDG_CACHE_HOME");
        Path caches = xdg != null && !xdg.isEmpty() ? Path.of(xdg) : Path.of(System.getProperty("user.home"), ".cache");
        return caches.resolve("erofs-ublk/decoded");
    }

    /** Opens and checks what is named; for a dm-verity tree all of it is read. */
    public Image open() throws IOException {
        Image data = openData();
        if (verity == null) {
            return data;
        }
        try {
            return VerityImage.of(data, verity, Runtime.getRuntime().availableProcessors(), hashed -> {});
        } catch (IOException | RuntimeException e) {
            data.close();
            throw e;
        }
    }

    private Image openData() throws IOException {
        if (image != null) {
            return openFile(image);
        }
        Path metadata = meta != null ? meta : ErofsImages.metaIn(Objects.requireNonNull(blobs, "blobs"));
        if (isRafs(metadata)) {
            BlobFinder finder = blobs != null ? BlobFinder.in(blobs) : this::given;
            return RafsImage.open(metadata, finder, cacheDirectory());
        }
        return blobs != null ? ErofsImages.fromDirectory(blobs, metadata) : ErofsImages.fromFiles(metadata, blob);
    }

    private Image openFile(Path file) throws IOException {
        Confinement confinement = allowed.isEmpty() ? Confinement.OWN_FOLDER : new Confinement(allowed);
        return switch (format != null ? format : Probe.format(file)) {
            case EROFS ->
                isRafs(file)
                        ? RafsImage.open(file, BlobFinder.in(folderOf(file)), cacheDirectory())
                        : ErofsImages.fromFiles(file, List.of());
            case RAW -> isRafs(file) && format == null ? rafsAlone(file) : RawImage.open(file);
            case VMDK -> VmdkImage.open(file, confinement, cacheDirectory());
            case VHDX -> VhdxImage.open(file, confinement);
            case VHD -> VhdImage.open(file, confinement);
        };
    }

    /** A Nydus blob that carries its own bootstrap has no magic at its head, so it looks like raw bytes. */
    private Image rafsAlone(Path file) throws IOException {
        return RafsImage.open(file, BlobFinder.in(folderOf(file)), cacheDirectory());
    }

    private static boolean isRafs(Path file) throws IOException {
        try (Blob blob = Blob.open(file)) {
            return RafsImage.isRafs(blob);
        } catch (ImageException damaged) {
            return false; // whoever reads it as what it claims to be will say what is wrong
        }
    }

    private CacheDirectory cacheDirectory() {
        return CacheDirectory.at(cache != null ? cache : defaultCache());
    }

    private static Path folderOf(Path file) {
        return Objects.requireNonNullElse(file.toAbsolutePath().getParent(), Path.of("/"));
    }

    /** The blob that was given under the name of its id, or the only one. */
    private Path given(String id) {
        for (Path path : blob) {
            if (String.valueOf(path.getFileName()).startsWith(id)) {
                return path;
            }
        }
        return blob.size() == 1 ? blob.getFirst() : Path.of(id);
    }
}

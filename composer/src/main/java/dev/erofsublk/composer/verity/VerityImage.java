// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.verity;

import dev.erofsublk.composer.Description;
import dev.erofsublk.composer.Extent;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import java.io.IOException;
import java.util.Map;
import java.util.function.LongConsumer;

/**
 * An image with its dm-verity tree behind it, as the tail of the device: nothing of the image is copied.
 *
 * @param image the one underneath, closed with this
 * @param tree its tree
 * @param flat data, zeros up to a multiple of 4096, tree
 */
public record VerityImage(Image image, VerityTree tree, FlatImage flat) implements Image {
    /**
     * Builds the tree of {@code image} and puts it behind.
     *
     * <p>Data blocks have 4096 bytes where the image's own blocks have as many, else 512: a file system cannot be
     * mounted from a device whose blocks are longer than its own.
     *
     * @return an image that owns {@code image}; if this fails, it stays the caller's
     */
    public static VerityImage of(Image image, Salt salt, int threads, LongConsumer progress) throws IOException {
        FlatImage data = image.flat();
        int block = data.blockSize() >= VerityGeometry.HASH_BLOCK ? VerityGeometry.HASH_BLOCK : FlatImage.SECTOR;
        VerityTree tree = VerityTree.build(data, block, salt, threads, progress);
        FlatImage.Builder builder = FlatImage.builder(data.blockSize());
        for (int i = 0; i < data.extentCount(); i++) {
            Extent extent = data.extent(i);
            builder.append(extent.length(), extent.source(), extent.sourceOffset());
        }
        builder.zerosTo(tree.geometry().treeOffset());
        builder.append(tree.geometry().treeBytes(), tree.blob(), 0);
        return new VerityImage(image, tree, builder.build());
    }

    @Override
    public String format() {
        return image.format();
    }

    @Override
    public void describe(Description description) {
        image.describe(description);
        Map<String, Object> row = description.row("verity");
        row.put("root_hash", tree.rootHash());
        row.put("salt", tree.salt().toString());
        row.put("data_block_size", tree.geometry().dataBlockSize());
        row.put("data_blocks", tree.geometry().dataBlocks());
        row.put("hash_offset", tree.geometry().treeOffset());
        row.put("hash_bytes", tree.geometry().treeBytes());
        row.put("veritysetup", tree.options());
    }

    @Override
    public void close() {
        tree.blob().close();
        image.close();
    }
}

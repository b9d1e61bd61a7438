// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import static org.assertj.core.api.Assertions.assertThat;

import dev.erofsublk.composer.TestImages.Kind;
import dev.erofsublk.composer.erofs.ErofsImage;
import dev.erofsublk.composer.erofs.ErofsImages;
import java.io.IOException;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class ReverseIndexTest {
    @ParameterizedTest
    @EnumSource
    void everyByteOfEveryFileLeadsBackToIt(Kind kind) throws Exception {
        try (ErofsImage image = ErofsImages.fromFiles(kind.meta(), kind.blobs())) {
            ErofsFileSystem fs = ErofsFileSystem.open(kind.id(), image.flat());
            ReverseIndex index = ReverseIndex.build(fs);
            assertThat(index.skipped()).isZero();
            assertThat(check(fs, index, fs.root(), "")).isGreaterThan(50);
        }
    }

    private static int check(ErofsFileSystem fs, ReverseIndex index, Inode directory, String path) throws IOException {
        int files = 0;
        for (DirectoryEntry entry : fs.list(directory)) {
            if (entry.isDot()) {
                continue;
            }
            Inode inode = fs.inode(entry.nid());
            String name = path + "/" + entry.name();
            assertThat(index.in(inode.offset(), inode.offset() + 1))
                    .anySatisfy(hit -> assertThat(hit.paths()).contains(name));
            for (long at : inode.hasData() ? new long[] {0, inode.size() / 2, inode.size() - 1} : new long[0]) {
                FileExtent extent = fs.extentAt(inode, at);
                if (extent.kind() == FileExtent.Kind.DATA || extent.kind() == FileExtent.Kind.INLINE) {
                    long address = extent.address() + at - extent.fileOffset();
                    List<ReverseIndex.Hit> hits = index.in(address, address + 1);
                    assertThat(hits).anySatisfy(hit -> {
                        assertThat(hit.paths()).contains(name);
                        assertThat(hit.fileOffset()).isEqualTo(at);
                        assertThat(hit.part()).isEqualTo(ReverseIndex.Part.CONTENT);
                    });
                }
            }
            files += inode.isDirectory() ? check(fs, index, inode, name) : 1;
        }
        return files;
    }
}

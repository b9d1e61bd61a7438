// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.erofs.fs.ErofsFileSystem;
import dev.erofsublk.composer.erofs.fs.Inode;
import dev.erofsublk.composer.erofs.fs.Type;
import java.io.IOException;
import java.io.OutputStream;
import java.util.List;

/** Writes files of an image to stdout, without a mount. */
final class CatCommand extends Command {
    private final SourceOptions source = new SourceOptions(this);

    private final Option<List<String>> paths = parameters("PATH", "1..*", "Path from the image's root.");

    CatCommand() {
        super("cat", "Write files of an image to stdout, without mounting it.");
    }

    /** Standard output that says when it is gone, which a {@link java.io.PrintStream} keeps to itself. */
    private static final class Stdout extends OutputStream {
        @Override
        public void write(int b) throws IOException {
            write(new byte[] {(byte) b}, 0, 1);
        }

        @Override
        public void write(byte[] bytes, int offset, int length) throws IOException {
            System.out.write(bytes, offset, length);
            if (System.out.checkError()) {
                throw new CommandException("standard output does not take what is written");
            }
        }
    }

    @Override
    public Integer call() throws IOException {
        OutputStream out = new Stdout();
        try (Image image = source.open()) {
            ErofsFileSystem fs = ErofsSource.open(image);
            for (String path : paths.or(List.of())) {
                Inode inode = fs.resolve(path, true)
                        .orElseThrow(() -> new CommandException(path + ": no such file in the image"));
                if (inode.type() != Type.REGULAR) {
                    throw new CommandException(path + ": not a regular file");
                }
                fs.copyTo(inode, out);
            }
        }
        return 0;
    }
}

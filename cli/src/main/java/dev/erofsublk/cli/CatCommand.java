// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.erofs.fs.ErofsFileSystem;
import dev.erofsublk.composer.erofs.fs.Inode;
import dev.erofsublk.composer.erofs.fs.Type;
import java.io.IOException;
import java.io.OutputStream;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Parameters;

/** Writes files of an image to stdout, without a mount. */
@Command(
        name = "cat",
        mixinStandardHelpOptions = true,
        description = "Write files of an image to stdout, without mounting it.")
final class CatCommand implements Callable<Integer> {
    @Mixin
    private SourceOptions source = new SourceOptions();

    @Parameters(paramLabel = "PATH", arity = "1..*", description = "Path from the image's root.")
    private List<String> paths = new ArrayList<>();

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
            for (String path : paths) {
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

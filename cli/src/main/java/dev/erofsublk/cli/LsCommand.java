// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.erofs.fs.DirectoryEntry;
import dev.erofsublk.composer.erofs.fs.ErofsFileSystem;
import dev.erofsublk.composer.erofs.fs.Inode;
import dev.erofsublk.composer.erofs.fs.Type;
import java.io.IOException;
import java.io.PrintStream;
import java.time.Instant;
import java.util.List;

/** Lists files of an image, without a mount. */
final class LsCommand extends Command {
    private final SourceOptions source = new SourceOptions(this);

    private final Option<Boolean> details = flag("-l", "Also type, mode, links, owner, size and time.");

    private final Option<Boolean> all = flag("-a, --all", "Also . and ..");

    private final Option<List<String>> paths =
            parameters("PATH", "0..*", "Path from the image's root; / if not given.");

    LsCommand() {
        super("ls", "List files of an image, without mounting it.");
        footer("A control character in a name is shown as '?'.");
    }

    @Override
    public Integer call() throws IOException {
        try (Image image = source.open()) {
            ErofsFileSystem fs = ErofsSource.open(image);
            List<String> wanted = paths.or(List.of("/"));
            PrintStream out = System.out;
            for (String path : wanted) {
                Inode inode = fs.resolve(path, path.endsWith("/"))
                        .orElseThrow(() -> new CommandException(path + ": no such file in the image"));
                if (!inode.isDirectory()) {
                    print(out, fs, inode, path);
                    continue;
                }
                if (wanted.size() > 1) {
                    out.println(printable(path) + ":");
                }
                for (DirectoryEntry entry : fs.list(inode)) {
                    if (all.isGiven() || !entry.isDot()) {
                        print(out, fs, fs.inode(entry.nid()), entry.name());
                    }
                }
            }
            out.flush();
        }
        return 0;
    }

    private void print(PrintStream out, ErofsFileSystem fs, Inode inode, String name) throws IOException {
        if (!details.isGiven()) {
            out.println(printable(name));
            return;
        }
        boolean device = inode.type() == Type.CHARACTER_DEVICE || inode.type() == Type.BLOCK_DEVICE;
        out.printf(
                "%s %3d %5s %5s %11s %s %s%s%n",
                mode(inode),
                inode.links(),
                Integer.toUnsignedString(inode.uid()),
                Integer.toUnsignedString(inode.gid()),
                device ? inode.major() + "," + inode.minor() : Long.toString(inode.size()),
                time(inode),
                printable(name),
                inode.type() == Type.SYMLINK ? " -> " + printable(fs.target(inode)) : "");
    }

    private static String time(Inode inode) {
        long last = Instant.MAX.getEpochSecond();
        return Instant.ofEpochSecond(Math.clamp(inode.seconds(), -last, last)).toString();
    }

    private static String mode(Inode inode) {
        int bits = inode.mode();
        char[] text = {'r', 'w', 'x', 'r', 'w', 'x', 'r', 'w', 'x'};
        for (int i = 0; i < text.length; i++) {
            if ((bits & 0400 >> i) == 0) {
                text[i] = '-';
            }
        }
        special(text, 2, (bits & 04000) != 0, 's');
        special(text, 5, (bits & 02000) != 0, 's');
        special(text, 8, (bits & 01000) != 0, 't');
        return inode.type().letter() + new String(text);
    }

    private static void special(char[] text, int at, boolean set, char letter) {
        if (set) {
            text[at] = text[at] == 'x' ? letter : Character.toUpperCase(letter);
        }
    }

    /** A name is whatever the image's maker chose: it must not drive the terminal. */
    static String printable(String name) {
        StringBuilder text = new StringBuilder(name.length());
        name.codePoints().forEach(c -> text.appendCodePoint(Character.isISOControl(c) ? '?' : c));
        return text.toString();
    }
}

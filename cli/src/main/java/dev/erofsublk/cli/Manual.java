// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Supplier;
import picocli.CommandLine.Help;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.Model.PositionalParamSpec;

/**
 * Writes the manual: a page for the program and one for each command, out of what the commands say of themselves, so that help and
 * manual cannot differ. In the language of man(7); scripts/build runs it.
 */
final class Manual {
    private static final String SECTION = "1";

    private static final String EXIT_STATUS = """
            .SH EXIT STATUS
            .TP
            0
            Done.
            .TP
            1
            Refused, or failed: one sentence on standard error says what was found where, and what was expected.
            .TP
            2
            The command line is wrong.
            """;

    private static final String PROGRAM = """
            .PP
            An image is a file system's metadata with the blobs that it refers to, a single file, or a disk image. A
            command that serves one composes it to one linear address space without copying a byte, checks that nothing
            of it would read wrong, and answers the requests of a block device with it. The device can then be mounted
            with
            .BR mount (8).
            .PP
            The first
            .B add
            becomes a daemon in the background, which later commands ask. When it is killed, readers wait, and the next
            daemon goes on where it was; when its last device is deleted, it ends.
            """;

    private static final String SURROUNDINGS = """
            .SH ENVIRONMENT
            .TP
            .B EROFS_UBLK_RUN
            The state directory, instead of those below.
            .TP
            .B JAVA_HOME
            The Java installation to use, 22 or newer; else the newest in /usr/lib/jvm or on the PATH.
            .SH FILES
            .TP
            .IR /run/erofs\\-ublk ", " $XDG_RUNTIME_DIR/erofs\\-ublk
            The state directory of root, and of other users: the daemon's lock, its socket, its log, and a record of each
            device, from which another daemon goes on.
            .SH EXAMPLES
            .EX
            dev=$(erofs\\-ublk add \\-\\-blobs /images/app)
            mount \\-t erofs \\-o ro $dev /mnt
            umount /mnt
            erofs\\-ublk del \\-n $dev
            .EE
            """;

    private Manual() {}

    /**
     * Writes all pages.
     *
     * @param args the directory for them
     */
    public static void main(String[] args) throws IOException {
        write(Path.of(args[0]));
    }

    static void write(Path dir) throws IOException {
        Files.createDirectories(dir);
        StringBuilder commands = new StringBuilder(".SH COMMANDS\n");
        for (Map.Entry<String, Supplier<Command>> each : Main.COMMANDS.entrySet()) {
            String page = Main.NAME + "-" + each.getKey();
            CommandSpec spec = each.getValue().get().spec().name(Main.NAME + " " + each.getKey());
            Files.writeString(dir.resolve(page + "." + SECTION), command(page, spec));
            commands.append(".TP\n.BR ").append(text(page)).append(" (" + SECTION + ")\n");
            commands.append(paragraph(spec.usageMessage().description()));
        }
        CommandSpec root = new Main.NoCommand().spec();
        Files.writeString(
                dir.resolve(Main.NAME + "." + SECTION),
                head(Main.NAME, root) + PROGRAM + commands + options(root) + EXIT_STATUS + SURROUNDINGS);
    }

    private static String command(String page, CommandSpec spec) {
        return head(page, spec)
                + options(spec)
                + paragraph(spec.usageMessage().footer()).replaceFirst("(?s)^(?=.)", ".SH NOTES\n")
                + EXIT_STATUS
                + ".SH SEE ALSO\n.BR " + text(Main.NAME) + " (" + SECTION + ")\n";
    }

    private static String head(String page, CommandSpec spec) {
        String description = paragraph(spec.usageMessage().description());
        String synopsis = new Help(spec, Help.defaultColorScheme(Help.Ansi.OFF)).synopsis(0);
        return ".\\\" Made from the command's own help by Manual.java\n"
                + ".TH " + text(page.toUpperCase(Locale.ROOT)) + " " + SECTION + " \"\" \"" + Main.version() + "X\n"
                + text(page) + " \\- "
                + description.strip().replaceFirst("\\.$", "") + "\n"
                + ".SH SYNOPSIS\n" + text(synopsis.strip().replaceAll("\\s+", " ")) + "\n"
                + ".SH DESCRIPTION\n" + description;
    }

    private static String options(CommandSpec spec) {
        StringBuilder roff = new StringBuilder(".SH OPTIONS\n");
        for (PositionalParamSpec parameter : spec.positionalParameters()) {
            roff.append(".TP\n\\fI").append(text(parameter.paramLabel())).append("\\fR\n");
            roff.append(paragraph(parameter.description()));
        }
        List<OptionSpec> sorted = new ArrayList<>(spec.options());
        sorted.sort(Comparator.comparing((OptionSpec option) -> option.usageHelp() || option.versionHelp())
                .thenComparing(OptionSpec::longestName));
        for (OptionSpec option : sorted) {
            String label = option.arity().max() == 0 ? "" : "=\\fI" + text(option.paramLabel()) + "\\fR";
            roff.append(".TP\n\\fB")
                    .append(text(String.join(", ", option.names())).replace(", ", "\\fR, \\fB"))
                    .append("\\fR")
                    .append(label)
                    .append('\n');
            roff.append(paragraph(option.description()));
        }
        return roff.toString();
    }

    private static String paragraph(String[] sentences) {
        return sentences.length == 0 ? "" : text(String.join(" ", sentences)) + "\n";
    }

    /** As man(7) prints it: a hyphen that can be copied to a command line, and no line that looks like a request. */
    private static String text(String plain) {
        return plain.replace("\\", "\\e").replace("-", "\\-").replaceFirst("^(?=[.'])", "\\\\&");
    }
}

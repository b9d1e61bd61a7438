// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.ublk.UblkUnavailableException;
import dev.erofsublk.uring.LinuxException;
import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Supplier;
import picocli.CommandLine;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;

/**
 * The command line. Exit codes: 0 done, 1 refused or failed, 2 wrong usage. Whatever goes wrong is one sentence on
 * stderr.
 */
public final class Main {
    static final String NAME = "erofs-ublk";

    /** By name, in the order of {@code --help}. Only the one that is meant is made. */
    static final Map<String, Supplier<Command>> COMMANDS = commands();

    private Main() {}

    private static Map<String, Supplier<Command>> commands() {
        Map<String, Supplier<Command>> commands = new LinkedHashMap<>();
        commands.put("add", AddCommand::new);
        commands.put("del", DelCommand::new);
        commands.put("list", ListCommand::new);
        commands.put("top", TopCommand::new);
        commands.put("nbd", NbdCommand::new);
        commands.put("serve", ServeCommand::new);
        commands.put("recover", RecoverCommand::new);
        commands.put("purge", PurgeCommand::new);
        commands.put("features", FeaturesCommand::new);
        commands.put("owner", OwnerCommand::new);
        commands.put("inspect", InspectCommand::new);
        commands.put("verify", VerifyCommand::new);
        commands.put("explain", ExplainCommand::new);
        commands.put("export", ExportCommand::new);
        commands.put("ls", LsCommand::new);
        commands.put("cat", CatCommand::new);
        return Collections.unmodifiableMap(commands);
    }

    /** What is run where no command is named. */
    static final class NoCommand extends Command {
        NoCommand() {
            super(NAME, "Serves flattened EROFS images as read-only Linux block devices, by ublk or NBD.");
            synopsisSubcommand("COMMAND");
        }

        @Override
        public Integer call() {
            throw usage("no command given");
        }
    }

    /** What the manifest says, so that there is one place for the number. */
    static String version() {
        String version = Main.class.getPackage().getImplementationVersion();
        return "erofs-ublk " + (version == null ? "(not packaged)" : version);
    }

    public static void main(String[] args) {
        if (args.length == 1 && args[0].equals("--version")) {
            System.out.println(version()); // without the command line's own start-up, which is most of the time
            return;
        }
        ReadySignal ready = ReadySignal.fromEnvironment();
        int status = execute(args);
        ready.send(status);
        if (status != 0 || ready.isDetached()) {
            System.exit(status);
        } // else by itself: exit() looks for a logger first, in the jar, which takes a tenth of the time of "list"
    }

    static int execute(String... args) {
        Supplier<Command> meant = COMMANDS.get(args.length == 0 ? "" : args[0]);
        if (meant != null) { // without the root, which would take a tenth of the time of "list"
            String name = NAME + " " + args[0];
            return execute(meant.get().spec().name(name), Arrays.copyOfRange(args, 1, args.length));
        }
        CommandSpec root = new NoCommand().spec();
        COMMANDS.forEach(
                (name, command) -> root.addSubcommand(name, command.get().spec()));
        return execute(root, args);
    }

    private static int execute(CommandSpec command, String... args) {
        return new CommandLine(command)
                .registerConverter(Path.class, Path::of) // picocli's own calls that by reflection
                .setParameterExceptionHandler(Main::usageError)
                .setExecutionExceptionHandler((e, line, parsed) -> failure(e, line))
                .setCaseInsensitiveEnumValuesAllowed(true)
                .execute(args);
    }

    private static int usageError(ParameterException e, String[] args) {
        CommandLine command = e.getCommandLine();
        command.getErr()
                .println("erofs-ublk: " + e.getMessage() + " (see '"
                        + command.getCommandSpec().qualifiedName() + " --help')");
        return CommandLine.ExitCode.USAGE;
    }

    private static int failure(Exception e, CommandLine command) throws Exception {
        if (e instanceof ParameterException usage) {
            return usageError(usage, new String[0]);
        }
        command.getErr().println("erofs-ublk: " + sentence(e));
        return CommandLine.ExitCode.SOFTWARE;
    }

    /** What went wrong, for a person. Anything but these is a defect of ours and keeps its stack trace. */
    private static String sentence(Exception e) throws Exception {
        return switch (e) {
            case ImageException refusal -> refusal.getMessage();
            case UblkUnavailableException missing -> String.valueOf(missing.getMessage());
            case LinuxException error -> error.getMessage();
            case CommandException failed -> String.valueOf(failed.getMessage());
            case NoSuchFileException missing -> missing.getFile() + ": no such file or directory";
            case AccessDeniedException denied -> denied.getFile() + ": permission denied";
            case NotDirectoryException file -> file.getFile() + ": not a directory";
            case FileSystemException error -> String.valueOf(error.getMessage());
            case IOException error -> String.valueOf(error.getMessage());
            default -> throw e;
        };
    }
}

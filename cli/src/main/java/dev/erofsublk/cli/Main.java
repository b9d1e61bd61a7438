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
import java.util.List;
import java.util.Locale;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/**
 * The command line. Exit codes: 0 done, 1 refused or failed, 2 wrong usage. Whatever goes wrong is one sentence on
 * stderr.
 */
@Command(
        name = "erofs-ublk",
        description = "Serves flattened EROFS images as read-only Linux block devices, by ublk or NBD.",
        mixinStandardHelpOptions = true,
        versionProvider = Main.Version.class,
        synopsisSubcommandLabel = "COMMAND")
public final class Main implements Runnable {
    /** In the order of {@code --help}. The name of each is that of its class. */
    private static final List<Class<?>> COMMANDS = List.of(
            AddCommand.class,
            DelCommand.class,
            ListCommand.class,
            TopCommand.class,
            NbdCommand.class,
            ServeCommand.class,
            RecoverCommand.class,
            PurgeCommand.class,
            FeaturesCommand.class,
            OwnerCommand.class,
            InspectCommand.class,
            VerifyCommand.class,
            ExplainCommand.class,
            ExportCommand.class,
            LsCommand.class,
            CatCommand.class);

    @Spec
    private @Nullable CommandSpec spec;

    /** Prints what the manifest says, so that there is one place for the number. */
    static final class Version implements IVersionProvider {
        @Override
        public String[] getVersion() {
            return new String[] {version()};
        }
    }

    private static String version() {
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
        System.exit(status);
    }

    static int execute(String... args) {
        CommandLine commandLine = new CommandLine(new Main());
        // picocli asks each class that it knows for its annotations, a third of what a command takes to start
        List<Class<?>> meant = COMMANDS.stream()
                .filter(each -> name(each).equals(args.length == 0 ? "" : args[0]))
                .toList();
        (meant.isEmpty() ? COMMANDS : meant).forEach(each -> commandLine.addSubcommand(name(each), each));
        return commandLine
                .setParameterExceptionHandler(Main::usageError)
                .setExecutionExceptionHandler((e, command, parsed) -> failure(e, command))
                .setCaseInsensitiveEnumValuesAllowed(true)
                .execute(args);
    }

    private static String name(Class<?> command) {
        return command.getSimpleName().replace("Command", "").toLowerCase(Locale.ROOT);
    }

    @Override
    public void run() {
        if (spec != null) {
            throw new ParameterException(spec.commandLine(), "no command given");
        }
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

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.Model.ArgGroupSpec;
import picocli.CommandLine.Model.ArgSpec;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.Model.PositionalParamSpec;
import picocli.CommandLine.ParameterException;

/**
 * A command: what it is called, what it says of itself, its options, and what it does.
 *
 * <p>Options are declared in code and not by picocli's annotations. For those the JVM generates a proxy class for each kind
 * of annotation and reads each field by reflection, at each start anew: 0.25 of the 0.6 s that a command took
 * (benchmarks/footprint).
 */
abstract class Command implements Callable<Integer> {
    private final CommandSpec spec = CommandSpec.wrapWithoutInspection(this);
    private final List<ArgSpec> options = new ArrayList<>();

    Command(String name, String description) {
        spec.name(name).usageMessage().description(description);
        spec.versionProvider(() -> new String[] {Main.version()});
        add(described("-h, --help", "Show this help message and exit.").usageHelp(true));
        add(described("-V, --version", "Print version information and exit.").versionHelp(true));
    }

    /** An option that is given or not. */
    final Option<Boolean> flag(String names, String description) {
        return add(described(names, description).type(boolean.class));
    }

    /** An option with a value of a type that picocli knows: a number, a string, a path or an enum. */
    final <T> Option<T> option(String names, Class<T> type, String label, String description) {
        return add(described(names, label, description).type(type));
    }

    /** An option with a value that {@code converter} understands. */
    final <T> Option<T> option(String names, ITypeConverter<T> converter, String label, String description) {
        return add(converted(names, converter, label, description));
    }

    /** Such an option that has to be given. */
    final <T> Option<T> required(String names, ITypeConverter<T> converter, String label, String description) {
        return add(converted(names, converter, label, description).required(true));
    }

    private static OptionSpec.Builder converted(
            String names, ITypeConverter<?> converter, String label, String description) {
        return described(names, label, description).type(Object.class).converters(converter);
    }

    /** An option that may be repeated. */
    final <T> Option<List<T>> list(String names, Class<T> type, String label, String description) {
        return add(described(names, label, description).type(List.class).auxiliaryTypes(type));
    }

    /** @param names one, or a short one and a long one with a comma and a space between them */
    private static OptionSpec.Builder described(String names, String description) {
        int comma = names.indexOf(", ");
        OptionSpec.Builder option = comma < 0
                ? OptionSpec.builder(names)
                : OptionSpec.builder(names.substring(0, comma), names.substring(comma + 2));
        return option.description(description);
    }

    private static OptionSpec.Builder described(String names, String label, String description) {
        return described(names, description).paramLabel(label);
    }

    private <T> Option<T> add(OptionSpec.Builder builder) {
        return add(builder.build());
    }

    private <T> Option<T> add(ArgSpec option) {
        options.add(option);
        return new Option<>(option);
    }

    /** What stands on the command line without being an option, {@code arity} times. */
    final Option<List<String>> parameters(String label, String arity, String description) {
        return add(PositionalParamSpec.builder()
                .paramLabel(label)
                .arity(arity)
                .required(!arity.startsWith("0"))
                .description(description)
                .type(List.class)
                .auxiliaryTypes(String.class)
                .build());
    }

    /** Lets only one of these options be given. */
    final void atMostOneOf(Option<?>... exclusive) {
        group("0..1", exclusive);
    }

    /** Asks for exactly one of these options. */
    final void oneOf(Option<?>... exclusive) {
        group("1", exclusive);
    }

    private void group(String multiplicity, Option<?>... exclusive) {
        ArgGroupSpec.Builder group = ArgGroupSpec.builder().exclusive(true).multiplicity(multiplicity);
        for (Option<?> option : exclusive) {
            group.addArg(option.spec());
            options.remove(option.spec());
        }
        spec.addArgGroup(group.build());
    }

    /** What stands for the commands in the synopsis of their parent. */
    final void synopsisSubcommand(String label) {
        spec.usageMessage().synopsisSubcommandLabel(label);
    }

    final void footer(String text) {
        spec.usageMessage().footer(text);
    }

    /** For picocli; to be asked for once, when all options are declared. */
    final CommandSpec spec() {
        options.forEach(spec::add);
        return spec;
    }

    /** The complaint that the command was used in a wrong way. */
    final ParameterException usage(String message) {
        return new ParameterException(spec.commandLine(), message);
    }

    final void refuse(boolean wrong, String message) {
        if (wrong) {
            throw usage(message);
        }
    }

    /** The value of an option that is a number from {@code least} to {@code most}; {@code ifAbsent} if it is not given. */
    final int checked(String name, Option<Integer> option, int ifAbsent, int least, int most) {
        @Nullable Integer value = option.value();
        if (value == null) {
            return ifAbsent;
        }
        if (value < least || value > most) {
            throw usage("%s is %d, expected %d to %d".formatted(name, value, least, most));
        }
        return value;
    }

    /** The value of {@code --block-size}: a power of two from 512 to {@code most}; 0 if it is not given. */
    final int checkedBlockSize(Option<Integer> option, int most) {
        int size = option.or(0);
        if (option.isGiven() && (size < 512 || size > most || Integer.bitCount(size) != 1)) {
            throw usage("--block-size is %d, expected a power of two from 512 to %d".formatted(size, most));
        }
        return size;
    }
}

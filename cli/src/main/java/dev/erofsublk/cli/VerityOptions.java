// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.verity.Salt;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** Whether there is to be a dm-verity tree, and with which salt. */
final class VerityOptions {
    @Option(
            names = "--verity",
            description = "Put a dm-verity hash tree behind the data; print root hash and the veritysetup command.")
    private boolean verity;

    @Option(
            names = "--salt",
            paramLabel = "HEX",
            description = "With --verity: the salt, up to 256 bytes; none if not given.")
    private @Nullable String salt;

    @Spec(Spec.Target.MIXEE)
    private @Nullable CommandSpec command;

    /** The salt of the tree; nothing if none is wanted. */
    Optional<Salt> salt() {
        if (salt == null) {
            return verity ? Optional.of(Salt.NONE) : Optional.empty();
        }
        if (!verity) {
            throw usage("--salt goes with --verity");
        }
        try {
            return Optional.of(Salt.parse(salt));
        } catch (IllegalArgumentException e) {
            throw usage("--salt is " + e.getMessage());
        }
    }

    private ParameterException usage(String message) {
        if (command == null) {
            throw new IllegalStateException("options outside a command");
        }
        return new ParameterException(command.commandLine(), message);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.verity.Salt;
import java.util.Optional;

/** Whether there is to be a dm-verity tree, and with which salt. */
final class VerityOptions {
    private final Command command;
    private final Option<Boolean> verity;
    private final Option<String> salt;

    VerityOptions(Command command) {
        this.command = command;
        verity = command.flag(
                "--verity", "Put a dm-verity hash tree behind the data; print root hash and the veritysetup command.");
        salt = command.option(
                "--salt", String.class, "HEX", "With --verity: the salt, up to 256 bytes; none if not given.");
    }

    /** The salt of the tree; nothing if none is wanted. */
    Optional<Salt> salt() {
        String text = salt.value();
        if (text == null) {
            return verity.isGiven() ? Optional.of(Salt.NONE) : Optional.empty();
        }
        command.refuse(!verity.isGiven(), "--salt goes with --verity");
        try {
            return Optional.of(Salt.parse(text));
        } catch (IllegalArgumentException e) {
            throw command.usage("--salt is " + e.getMessage());
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import java.io.IOException;

/** A command that could not do what it was asked to; the message is the whole sentence. */
final class CommandException extends IOException {
    CommandException(String message) {
        super(message);
    }
}

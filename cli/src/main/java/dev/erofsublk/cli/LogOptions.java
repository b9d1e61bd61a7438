// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.Log;

/** How much the daemon says, for the commands that may start one. */
final class LogOptions {
    private final Option<Log.Level> level;

    LogOptions(Command command) {
        level = command.option(
                "--log-level",
                Log.Level.class,
                "LEVEL",
                "What a daemon logs: error, warn, info or debug. Default: info.");
    }

    void apply() {
        Log.threshold(level.or(Log.Level.INFO));
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.Log;
import picocli.CommandLine.Option;

/** How much the daemon says, for the commands that may start one. */
final class LogOptions {
    @Option(
            names = "--log-level",
            paramLabel = "LEVEL",
            description = "What a daemon logs: error, warn, info or debug. Default: info.")
    private Log.Level level = Log.Level.INFO;

    void apply() {
        Log.threshold(level);
    }
}

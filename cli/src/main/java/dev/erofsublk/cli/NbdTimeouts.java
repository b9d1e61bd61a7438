// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.DeviceSpec;

/** How patient the kernel's nbd driver is with its server. */
final class NbdTimeouts {
    private final Command command;
    private final Option<Integer> timeout;
    private final Option<Integer> deadTimeout;

    NbdTimeouts(Command command) {
        this.command = command;
        timeout = command.option(
                "--timeout",
                Integer.class,
                "SECONDS",
                "How long the nbd driver waits for an answer before it asks again, and so the pause that"
                        + " readers notice when the server is replaced. Default: 5.");
        deadTimeout = command.option(
                "--dead-timeout",
                Integer.class,
                "SECONDS",
                "How long readers of an nbd device wait for the next server when theirs has died, before they"
                        + " get errors. Default: 300.");
    }

    boolean isGiven() {
        return timeout.isGiven() || deadTimeout.isGiven();
    }

    /** Refuses what is out of range. */
    void check() {
        check("--timeout", timeout());
        check("--dead-timeout", deadTimeout());
    }

    private void check(String option, int seconds) {
        if (seconds < 1 || seconds > DeviceSpec.MAX_TIMEOUT) {
            throw command.usage(
                    "%s is %d, expected 1 to %d seconds".formatted(option, seconds, DeviceSpec.MAX_TIMEOUT));
        }
    }

    int timeout() {
        return timeout.or(DeviceSpec.DEFAULT_TIMEOUT);
    }

    int deadTimeout() {
        return deadTimeout.or(DeviceSpec.DEFAULT_DEAD_TIMEOUT);
    }
}

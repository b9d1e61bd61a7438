// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.DeviceSpec;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** How patient the kernel's nbd driver is with its server. */
final class NbdTimeouts {
    @Option(
            names = "--timeout",
            paramLabel = "SECONDS",
            description = "How long the nbd driver waits for an answer before it asks again, and so the pause that"
                    + " readers notice when the server is replaced. Default: 5.")
    private @Nullable Integer timeout;

    @Option(
            names = "--dead-timeout",
            paramLabel = "SECONDS",
            description = "How long readers of an nbd device wait for the next server when theirs has died, before they"
                    + " get errors. Default: 300.")
    private @Nullable Integer deadTimeout;

    @Spec(Spec.Target.MIXEE)
    private @Nullable CommandSpec command;

    boolean isGiven() {
        return timeout != null || deadTimeout != null;
    }

    /** Refuses what is out of range. */
    void check() {
        check("--timeout", timeout());
        check("--dead-timeout", deadTimeout());
    }

    private void check(String option, int seconds) {
        if ((seconds < 1 || seconds > DeviceSpec.MAX_TIMEOUT) && command != null) {
            throw new ParameterException(
                    command.commandLine(),
                    "%s is %d, expected 1 to %d seconds".formatted(option, seconds, DeviceSpec.MAX_TIMEOUT));
        }
    }

    int timeout() {
        return timeout == null ? DeviceSpec.DEFAULT_TIMEOUT : timeout;
    }

    int deadTimeout() {
        return deadTimeout == null ? DeviceSpec.DEFAULT_DEAD_TIMEOUT : deadTimeout;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import java.util.Objects;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Model.ArgSpec;

/**
 * What may stand on the command line behind a command, and what did: an option, or the parameters that are none.
 *
 * @param <T> type of the value; Boolean for an option without one, a List where it may be repeated
 */
record Option<T>(ArgSpec spec) {
    /** Whether it was given; {@code --flag=false} is as good as not. */
    boolean isGiven() {
        T given = value();
        return given != null && !Boolean.FALSE.equals(given);
    }

    /** What was given; null if nothing was. */
    @Nullable
    T value() {
        return spec.getValue();
    }

    /** What was given, where it is known that something was. */
    T given() {
        return Objects.requireNonNull(value());
    }

    /** What was given, or else {@code ifAbsent}. */
    T or(T ifAbsent) {
        T given = value();
        return given == null ? ifAbsent : given;
    }
}

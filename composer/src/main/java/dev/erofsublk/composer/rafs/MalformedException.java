// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import org.jspecify.annotations.Nullable;

/** Encoded bytes that do not decode; whoever knows what they belong to says so in an exception for users. */
final class MalformedException extends Exception {
    MalformedException(String reason, @Nullable Throwable cause) {
        super(reason, cause);
    }
}

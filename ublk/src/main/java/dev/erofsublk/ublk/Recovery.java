// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

/** What the kernel does with a device, and with its readers, when the server dies. */
public enum Recovery {
    /** The device ends: readers get errors, and it is only good for deleting. */
    NONE,
    /** Readers wait, those whose requests the dead server had included, until a new server takes over. */
    REISSUE,
    /** Readers get errors at once until a new server takes over (Linux 6.13). */
    FAIL_IO;

    /** The {@link Feature} bits to ask for, of those that the kernel offers. */
    long flags(long offered) {
        long flags = switch (this) {
            case NONE -> 0;
            case REISSUE -> Feature.USER_RECOVERY.bit() | Feature.USER_RECOVERY_REISSUE.bit();
            case FAIL_IO -> Feature.USER_RECOVERY.bit() | Feature.USER_RECOVERY_FAIL_IO.bit();
        };
        return this == NONE ? flags : flags | (offered & Feature.QUIESCE.bit());
    }
}

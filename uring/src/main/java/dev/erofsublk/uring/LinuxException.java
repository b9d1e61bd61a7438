// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import java.io.IOException;
import java.util.Objects;

/**
 * A Linux call that failed.
 *
 * <p>Checked, because each of them is a fact about the machine or a file that the caller has to put into words for
 * a user.
 */
public final class LinuxException extends IOException {
    private final String call;
    private final int errno;

    /**
     * @param call the system call or command, for example {@code mmap} or {@code UBLK_U_CMD_ADD_DEV}
     * @param arguments the arguments that matter, as a reader would write them; may be empty
     * @param errno the positive error number
     */
    public LinuxException(String call, String arguments, int errno) {
        super(text(call, arguments, errno));
        this.call = call;
        this.errno = errno;
    }

    private static String text(String call, String arguments, int errno) {
        String message = Errno.message(errno);
        return call + "(" + arguments + "): " + (message.isEmpty() ? "" : message + " ") + "[" + Errno.name(errno)
                + "]";
    }

    /** The call that failed, as given to the constructor. */
    public String call() {
        return call;
    }

    /** The positive error number; see {@link Errno}. */
    public int errno() {
        return errno;
    }

    /** One line; never null. */
    @Override
    public String getMessage() {
        return Objects.requireNonNull(super.getMessage());
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/**
 * How a server that goes on by itself tells the command which started it that the device is readable.
 *
 * <p>{@code bin/erofs-ublk} starts the JVM in a session of its own with a pipe, whose descriptor number is in
 * {@value #VARIABLE}, and returns with the status that comes through it. So there is one JVM, not two. Without the
 * variable nothing is signalled.
 */
final class ReadySignal {
    static final String VARIABLE = "EROFS_UBLK_READY_FD";

    private static int fd = -1;
    private static boolean detached;

    private ReadySignal() {}

    static ReadySignal fromEnvironment() {
        String number = System.getenv(VARIABLE);
        if (number != null && number.matches("[3-9]")) {
            fd = Integer.parseInt(number);
        }
        return new ReadySignal();
    }

    /** Whether this process has let its command go on, and lives by itself. */
    boolean isDetached() {
        return detached;
    }

    /** Whether somebody waits for this process to say that it is ready. */
    static boolean isAwaited() {
        return fd >= 0;
    }

    /** Tells the status, once; later calls do nothing. The command goes on when this process has ended, too. */
    void send(int status) {
        sendStatus(status);
    }

    private static synchronized void sendStatus(int status) {
        if (fd < 0) {
            return;
        }
        try (OutputStream pipe = new FileOutputStream("/proc/self/fd/" + fd)) {
            pipe.write((status + "\n").getBytes(StandardCharsets.US_ASCII));
        } catch (IOException gone) {
            // The command was killed; the device is served all the same.
        }
        fd = -1;
    }

    /**
     * Lets go of the terminal, and of the directory, which else could not be unmounted; then tells the waiting command
     * that all is well.
     *
     * @param log a file that takes what is said on the standard streams from here on
     */
    static void detach(Path log) throws IOException {
        System.out.flush();
        redirect("/dev/null", 0, Linux.O_RDWR);
        redirect(log.toString(), 1, Linux.O_RDWR | Linux.O_APPEND);
        redirect(log.toString(), 2, Linux.O_RDWR | Linux.O_APPEND);
        Linux.changeDirectory("/");
        int pipe = fd;
        sendStatus(0);
        Linux.close(pipe); // whose end the command waits for
        detached = true;
    }

    private static void redirect(String path, int target, int flags) throws LinuxException {
        int file = Linux.open(path, flags);
        Linux.dup(file, target);
        Linux.close(file);
    }
}

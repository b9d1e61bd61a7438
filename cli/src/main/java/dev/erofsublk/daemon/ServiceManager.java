// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import java.nio.charset.StandardCharsets;

/** Tells systemd how the service is: the protocol of sd_notify(3), which is one datagram. Does nothing without it. */
final class ServiceManager {
    private static final String SOCKET = System.getenv("NOTIFY_SOCKET");

    private ServiceManager() {}

    /** The service does what it is there for; {@code status} is for people. */
    static void ready(String status) {
        send("READY=1\nSTATUS=" + status);
    }

    static void status(String status) {
        send("STATUS=" + status);
    }

    static void stopping() {
        send("STOPPING=1");
    }

    private static void send(String message) {
        if (SOCKET == null || SOCKET.isEmpty()) {
            return;
        }
        try {
            Linux.sendDatagram(SOCKET, message.getBytes(StandardCharsets.UTF_8));
        } catch (LinuxException e) {
            Log.warn("the service manager does not listen: %s", e.getMessage());
        }
    }
}

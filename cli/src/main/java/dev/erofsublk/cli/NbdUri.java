// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import java.net.Inet6Address;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/**
 * Where a server is, as its clients want to be told (NetworkBlockDevice/nbd, doc/uri.md).
 *
 * @param authority scheme and host
 * @param query what follows the export's name
 */
record NbdUri(String authority, String query) {
    private static final String PLAIN = "-._~/:@!$'()*,;"; // sub-delimiters but & + =, which some take for a query's

    static NbdUri unix(boolean tls, Path socket) {
        return new NbdUri((tls ? "nbds" : "nbd") + "+unix://", "?socket=" + quoted(socket.toString()));
    }

    static NbdUri tcp(boolean tls, InetSocketAddress address) {
        String host = address.getAddress().getHostAddress().replaceAll("%.*", "");
        String shown = address.getAddress() instanceof Inet6Address ? "[" + host + "]" : host;
        return new NbdUri("%s://%s:%d".formatted(tls ? "nbds" : "nbd", shown, address.getPort()), "");
    }

    /** That of one export. */
    String of(String export) {
        return authority + "/" + quoted(export) + query;
    }

    private static String quoted(String text) {
        StringBuilder quoted = new StringBuilder();
        for (byte b : text.getBytes(StandardCharsets.UTF_8)) {
            char c = (char) (b & 0xff);
            if (c < 0x80 && (Character.isLetterOrDigit(c) || PLAIN.indexOf(c) >= 0)) {
                quoted.append(c);
            } else {
                quoted.append("%%%02X".formatted((int) c));
            }
        }
        return quoted.toString();
    }
}

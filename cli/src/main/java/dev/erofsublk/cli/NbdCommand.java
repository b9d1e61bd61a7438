// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.Backend;
import dev.erofsublk.daemon.DeviceId;
import dev.erofsublk.daemon.DeviceSpec;
import dev.erofsublk.daemon.MappedImage;
import dev.erofsublk.daemon.SourceSpec;
import dev.erofsublk.nbd.Export;
import dev.erofsublk.nbd.Exports;
import dev.erofsublk.nbd.Limits;
import dev.erofsublk.nbd.NbdServer;
import dev.erofsublk.nbd.Tls;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import org.jspecify.annotations.Nullable;

/** The same device over NBD: to any client, or to the kernel's own driver. */
final class NbdCommand extends Command {
    private static final int MAX_CLIENTS = 10_000;
    private static final int MAX_HANDSHAKE_SECONDS = 3600;

    private final SourceOptions source = new SourceOptions(this);

    private final Option<String> name =
            option("--name", String.class, "NAME", "The export's name. Default: the empty name.");

    private final Option<List<String>> further = list(
            "--export",
            String.class,
            "NAME=PATH",
            "A further export: PATH is a directory, as with --blobs, or a file, as with --image. May be"
                    + " repeated.");

    private final Option<List<Path>> sockets = list("--socket", Path.class, "PATH", "Listen on a unix socket.");

    private final Option<List<String>> addresses = list(
            "--listen", String.class, "HOST:PORT", "Listen on TCP; port 0 for one that is free, which is printed.");

    private final Option<Boolean> stdio =
            flag("--stdio", "Serve the one client on standard input and output, as inetd does.");

    private final Option<String> device = option(
            "--device",
            String.class,
            "/dev/nbdN|auto",
            "Have the kernel's nbd driver make it a block device. If it was killed and is started again for"
                    + " the same device, it takes that over.");

    private final Option<Integer> connections = option(
            "--connections",
            Integer.class,
            "N",
            "Clients at a time; one more is hung up on. Default: 100. With --device: connections to the"
                    + " driver, each a hardware queue with a thread, 1 to 64. Default: 1.");

    private final Option<Integer> blockSize = option(
            "--block-size",
            Integer.class,
            "BYTES",
            "With --device: 512, 1024, 2048 or 4096, at most the image's own, which is the default.");

    private final NbdTimeouts timeouts = new NbdTimeouts(this);

    private final Option<Integer> handshake = option(
            "--handshake-timeout",
            Integer.class,
            "SECONDS",
            "How long a client may take until its first request. Default: 10.");

    private final Option<Path> certificates = option(
            "--tls-certificates", Path.class, "DIR", "Offer TLS, with server-cert.pem and server-key.pem of DIR.");

    private final Option<TlsUse> tlsUse = option(
            "--tls", TlsUse.class, "on|require", "Whether clients may do without TLS (on) or not. Default: require.");

    private final Option<Boolean> verifyPeer =
            flag("--tls-verify-peer", "Only clients with a certificate that ca-cert.pem of DIR has signed.");

    private enum TlsUse {
        ON,
        REQUIRE
    }

    NbdCommand() {
        super("nbd", "Serve images over NBD, read-only, until it is interrupted.");
        footer("Prints the URI of each export, or the path of the device, once it can be read.");
    }

    @Override
    public Integer call() throws IOException, InterruptedException {
        String wish = device.value();
        int ways =
                (stdio.isGiven() ? 1 : 0) + (wish != null ? 1 : 0) + (sockets.isGiven() || addresses.isGiven() ? 1 : 0);
        refuse(
                ways == 0,
                "nothing to serve on: use --socket PATH, --listen HOST:PORT, --stdio or --device /dev/nbdN|auto");
        refuse(ways > 1, "--stdio and --device go alone");
        if (wish != null) {
            return serveDevice(wish);
        }
        refuse(blockSize.isGiven(), "--block-size goes with --device");
        refuse(timeouts.isGiven(), "--timeout and --dead-timeout go with --device");
        refuse(
                !certificates.isGiven() && (tlsUse.isGiven() || verifyPeer.isGiven()),
                "--tls and --tls-verify-peer go with --tls-certificates");
        refuse(stdio.isGiven() && connections.isGiven(), "--connections goes with --socket, --listen or --device");
        Limits limits = limits();
        List<InetSocketAddress> listen =
                addresses.or(List.of()).stream().map(this::address).toList();
        Path directory = certificates.value();
        Tls tls = directory == null
                ? null
                : Tls.fromDirectory(directory, tlsUse.or(TlsUse.REQUIRE) == TlsUse.REQUIRE, verifyPeer.isGiven());
        List<MappedImage> mapped = new ArrayList<>();
        try {
            Exports exports = exports(mapped);
            return stdio.isGiven() ? converse(exports, limits, tls) : serve(exports, limits, tls, listen);
        } finally {
            mapped.forEach(MappedImage::close);
        }
    }

    private int serveDevice(String wish) throws IOException, InterruptedException {
        refuse(name.isGiven() || further.isGiven(), "--name and --export go with --socket, --listen or --stdio");
        refuse(
                certificates.isGiven() || tlsUse.isGiven() || verifyPeer.isGiven() || handshake.isGiven(),
                "TLS and --handshake-timeout go with --socket, --listen or --stdio");
        int index = wish.equals("auto")
                ? -1
                : DeviceId.parse(wish)
                        .filter(id -> id.backend() == Backend.NBD)
                        .map(DeviceId::number)
                        .orElseThrow(() -> usage("--device is %s, expected /dev/nbdN or auto".formatted(wish)));
        int count = checked("--connections", connections, 1, 1, DeviceSpec.MAX_CONNECTIONS);
        timeouts.check();
        try (MappedImage mapped = MappedImage.open(source.spec())) {
            int block = checkedBlockSize(blockSize, mapped.image().flat().blockSize());
            mapped.require(false);
            new NbdForeground(mapped, count, block, timeouts).serve(index, path -> {
                System.out.println(path);
                System.out.flush();
            });
        }
        return 0;
    }

    private Limits limits() {
        Limits usual = Limits.DEFAULT;
        int clients = checked("--connections", connections, usual.connections(), 1, MAX_CLIENTS);
        int seconds = checked(
                "--handshake-timeout", handshake, (int) usual.handshake().toSeconds(), 1, MAX_HANDSHAKE_SECONDS);
        return new Limits(clients, Duration.ofSeconds(seconds), usual.options(), usual.optionBytes());
    }

    /** Opens everything that is to be served, and notes in {@code mapped} what to close. */
    private Exports exports(List<MappedImage> mapped) throws IOException {
        List<Export> exports = new ArrayList<>();
        Set<String> names = new HashSet<>();
        if (source.isGiven() || !further.isGiven()) {
            String own = name.or("");
            names.add(own);
            exports.add(export(own, source.spec(), mapped));
        } else {
            refuse(name.isGiven(), "--name goes with an image; --export has its own");
        }
        for (String text : further.or(List.of())) {
            int equals = text.indexOf('=');
            refuse(equals < 0 || equals == text.length() - 1, "--export is %s, expected NAME=PATH".formatted(text));
            String own = text.substring(0, equals);
            refuse(!names.add(own), "there are two exports with the name \"%s\"".formatted(own));
            exports.add(export(own, source.further(path(text.substring(equals + 1))), mapped));
        }
        return new Exports(exports);
    }

    private Path path(String text) {
        try {
            return Path.of(text);
        } catch (InvalidPathException e) {
            throw usage("--export: " + e.getMessage());
        }
    }

    private Export export(String own, SourceSpec from, List<MappedImage> mapped) throws IOException {
        refuse(
                own.getBytes(StandardCharsets.UTF_8).length > Export.MAX_NAME_BYTES,
                "an export's name has more than %d bytes".formatted(Export.MAX_NAME_BYTES));
        MappedImage opened = MappedImage.open(from);
        mapped.add(opened);
        opened.require(false);
        return new Export(own, "", opened.space());
    }

    private InetSocketAddress address(String text) {
        int colon = text.lastIndexOf(':');
        String host = colon < 0 ? "" : text.substring(0, colon);
        String port = text.substring(colon + 1);
        if (host.isEmpty() || !port.matches("\\d{1,5}") || Integer.parseInt(port) > 65535) {
            throw usage("--listen is %s, expected HOST:PORT, such as localhost:10809 or [::1]:0".formatted(text));
        }
        if (host.startsWith("[") && host.endsWith("]")) {
            host = host.substring(1, host.length() - 1);
        }
        InetSocketAddress address = new InetSocketAddress(host, Integer.parseInt(port));
        refuse(address.isUnresolved(), "--listen is %s: there is no host of that name".formatted(text));
        return address;
    }

    private int serve(Exports exports, Limits limits, @Nullable Tls tls, List<InetSocketAddress> listen)
            throws IOException, InterruptedException {
        try (NbdServer server = new NbdServer(exports, limits, tls, NbdCommand::log)) {
            // Before the first socket is made, which a signal might else leave behind
            Runtime.getRuntime().addShutdownHook(new Thread(server::close, "shutdown"));
            List<NbdUri> uris = new ArrayList<>();
            for (Path path : sockets.or(List.of())) {
                server.listen(path);
                uris.add(NbdUri.unix(tls != null, path));
            }
            for (InetSocketAddress address : listen) {
                InetSocketAddress bound = server.listen(address);
                uris.add(NbdUri.tcp(tls != null, bound));
                if (tls == null && !bound.getAddress().isLoopbackAddress()) {
                    log(bound
                            + " is served without TLS to everybody who can reach it; --tls-certificates changes that");
                }
            }
            for (NbdUri uri : uris) {
                exports.names().forEach(each -> System.out.println(uri.of(each)));
            }
            System.out.flush();
            new CountDownLatch(1).await(); // a signal ends the process, and its hook the server
        }
        return 0;
    }

    private static int converse(Exports exports, Limits limits, @Nullable Tls tls) {
        System.setOut(System.err); // nothing but the protocol goes to the client
        NbdServer.serve(0, 1, exports, limits, tls, isClientOnStandardError() ? line -> {} : NbdCommand::log, () -> {
            Runtime.getRuntime().halt(1); // a wait for a pipe ends in no other way
        });
        return 0;
    }

    /** As inetd arranges it. */
    private static boolean isClientOnStandardError() {
        try {
            Path out = Files.readSymbolicLink(Path.of("/proc/self/fd/1"));
            return out.toString().startsWith("socket:")
                    && out.equals(Files.readSymbolicLink(Path.of("/proc/self/fd/2")));
        } catch (IOException e) {
            return false;
        }
    }

    private static void log(String line) {
        System.err.println("erofs-ublk: " + line);
    }
}

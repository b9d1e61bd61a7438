// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Sockets;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * A device of the kernel's nbd driver, {@code /dev/nbdN}, of which this process is the server.
 *
 * <p>Each connection is a socket pair with a thread on our end. One that breaks (the kernel gave up waiting, or bytes went
 * missing while they were sent) is replaced; until then the driver keeps its requests, as it does when the server dies and
 * another one {@linkplain #reattach reattaches}.
 *
 * <p>Thread-safe.
 */
public final class NbdDevice implements AutoCloseable {
    private static final long SETTLE_NANOS = TimeUnit.SECONDS.toNanos(10);
    private static final int POLL_MILLIS = 10;
    private static final int RECONNECT_MILLIS = 200;

    private final Export export;
    private final Options options;
    private final Consumer<String> log;

    private volatile int index;

    // Guarded by this
    private final List<Serving> serving = new ArrayList<>();
    private boolean stopping;
    private boolean disconnected;
    private boolean gone;

    private record Serving(Connection connection, Thread thread) {}

    /**
     * How the device is set up.
     *
     * @param connections sockets, and so hardware queues and serving threads; 1 to 64
     * @param blockSize logical block size: 512 to 4096, or 0 for the one that suits the content
     * @param timeout how long the kernel waits for an answer before it gives the connection up; whole seconds, zero for
     *     ever. A request that was on its way when its connection broke is sent again only when this time has passed, or
     *     30 seconds with zero
     * @param deadConnectionTimeout how long the kernel keeps requests when no connection is left, for a server to come
     *     back; whole seconds
     * @param backend what the device serves, for example a digest; a server that reattaches must have the same. May be
     *     empty
     * @param destroyOnDisconnect whether the device node goes with the device
     */
    public record Options(
            int connections,
            int blockSize,
            Duration timeout,
            Duration deadConnectionTimeout,
            String backend,
            boolean destroyOnDisconnect) {
        /** One connection, no timeout for requests, 30 seconds to come back. */
        public static final Options DEFAULT = new Options(1, 0, Duration.ZERO, Duration.ofSeconds(30), "", false);

        public Options {
            if (connections < 1 || connections > 64 || timeout.isNegative() || deadConnectionTimeout.isNegative()) {
                throw new IllegalArgumentException("nbd device options out of range");
            }
            if (blockSize != 0 && (blockSize < 512 || blockSize > 4096 || Integer.bitCount(blockSize) != 1)) {
                throw new IllegalArgumentException("block size " + blockSize);
            }
            if (Export.utf8(backend).length > 1024) {
                throw new IllegalArgumentException("a backend identifier of more than 1024 bytes");
            }
        }
    }

    private NbdDevice(int index, Export export, Options options, Consumer<String> log) {
        this.index = index;
        this.export = export;
        this.options = options;
        this.log = log;
    }

    /**
     * Checks that the kernel has the driver.
     *
     * @throws IOException saying what to do, if not
     */
    public static void requireDriver() throws IOException {
        new NbdDriver().close();
    }

    /** The indexes of all connected devices, whoever serves them. */
    public static List<Integer> connected() throws IOException {
        try (NbdDriver driver = new NbdDriver()) {
            return driver.connected();
        }
    }

    /** The device node of index {@code index}. */
    public static Path path(int index) {
        return Path.of("/dev/nbd" + index);
    }

    /**
     * Makes a device and serves it. On return it can be read.
     *
     * @param index which, or -1 for the first that is free
     * @throws LinuxException with EBUSY if that one is in use, EPERM without CAP_SYS_ADMIN
     */
    public static NbdDevice attach(int index, Export export, Options options, Consumer<String> log) throws IOException {
        int blockSize = options.blockSize() != 0 ? options.blockSize() : blockSize(export);
        if (export.size() % blockSize != 0) {
            throw new IllegalArgumentException(export.size() + " bytes in blocks of " + blockSize);
        }
        NbdDevice device = new NbdDevice(-1, export, options, log);
        try (NbdDriver driver = new NbdDriver();
                Pairs pairs = new Pairs(options.connections())) {
            pairs.connections(log)
                    .forEach(device::start); // before CONNECT: udev reads the device as soon as it is there
            device.index = driver.connect(index, export.size(), blockSize, options, pairs.kernelEnds());
            device.nameThreads();
            device.chooseNoScheduler();
            device.lookForPartitions();
            return device;
        } catch (IOException | RuntimeException e) {
            device.close();
            throw e;
        }
    }

    private static int blockSize(Export export) {
        return export.size() % export.blockSize() == 0 ? export.blockSize() : 512;
    }

    /**
     * Serves a device whose server has died, within its dead-connection timeout: its pending requests are then answered.
     *
     * @param index the device
     * @param options as it was attached with: the number of connections and the backend identifier have to be the same
     * @throws LinuxException with EINVAL if the device is not connected, or serves something else
     */
    public static NbdDevice reattach(int index, Export export, Options options, Consumer<String> log)
            throws IOException {
        NbdDevice device = new NbdDevice(index, export, options, log);
        device.reconnect(options.connections());
        return device;
    }

    /** The index N of {@code /dev/nbdN}. */
    public int index() {
        return index;
    }

    /** The device node. */
    public Path path() {
        return path(index);
    }

    /** How many connections are being served. */
    public synchronized int connectionCount() {
        return serving.size();
    }

    /** Whether the driver has said goodbye: somebody disconnected the device. */
    public synchronized boolean isDisconnected() {
        return disconnected;
    }

    /** Waits until it is served no more: disconnected by somebody, {@linkplain #close closed}, or not ours any longer. */
    public synchronized void awaitEnd() throws InterruptedException {
        while (!(stopping || disconnected || gone) || !serving.isEmpty()) {
            wait();
        }
    }

    private void chooseNoScheduler() {
        try {
            Files.writeString(sys(index).resolve("queue/scheduler"), "none");
        } catch (IOException e) {
            log.accept("nbd" + index + ": the scheduler stays: " + e.getMessage());
        }
    }

    /** The first who opens a device waits while the kernel looks for partitions: for ever, if its server has died before. */
    private void lookForPartitions() {
        try {
            Linux.close(Linux.open(path().toString(), Linux.O_RDONLY));
        } catch (LinuxException e) {
            log.accept("nbd" + index + ": not opened: " + e.getMessage()); // without devtmpfs there may be no node
        }
    }

    private static Path sys(int index) {
        return Path.of("/sys/block/nbd" + index);
    }

    private synchronized void start(Connection connection) {
        if (stopping) {
            connection.discard();
            return;
        }
        Session session = Session.plain(export);
        Thread thread = Thread.ofPlatform()
                .daemon()
                .name("nbd" + index + "-" + serving.size())
                .unstarted(() -> ended(connection, connection.serve(session)));
        serving.add(new Serving(connection, thread));
        thread.start();
    }

    private synchronized void nameThreads() {
        for (int i = 0; i < serving.size(); i++) {
            serving.get(i).thread.setName("nbd" + index + "-" + i);
        }
    }

    /** Called by the thread of a connection as the last thing it does. */
    private void ended(Connection connection, boolean finished) {
        synchronized (this) {
            serving.removeIf(s -> s.connection == connection);
            disconnected |= finished;
            notifyAll();
        }
        while (isWanted()) {
            try {
                Thread.sleep(
                        RECONNECT_MILLIS); // the driver takes a new socket only once it knows that the old one is dead
                if (isWanted()) {
                    reconnect(1);
                    log.accept("nbd" + index + ": a broken connection was replaced");
                }
                return;
            } catch (LinuxException e) {
                if (e.errno() == Errno.EINVAL || e.errno() == Errno.ENODEV || e.errno() == Errno.ENOENT) {
                    giveUp(e);
                    return;
                }
                log.accept("nbd" + index + ": " + e.getMessage());
            } catch (IOException e) {
                log.accept("nbd" + index + ": " + e.getMessage());
            } catch (InterruptedException e) {
                return;
            }
        }
    }

    private synchronized void giveUp(LinuxException e) {
        if (!gone && isWanted()) {
            log.accept("nbd" + index + ": gone: " + e.getMessage());
        }
        gone = true;
        notifyAll();
    }

    private synchronized boolean isWanted() {
        return index >= 0 && !stopping && !disconnected;
    }

    private void reconnect(int connections) throws IOException {
        try (NbdDriver driver = new NbdDriver();
                Pairs pairs = new Pairs(connections)) {
            List<Connection> ours = pairs.connections(log);
            try {
                driver.reconfigure(index, options, pairs.kernelEnds());
            } catch (IOException e) {
                ours.forEach(Connection::discard);
                throw e;
            }
            ours.forEach(this::start);
        }
    }

    /**
     * Why the device must not be disconnected now, as the driver itself would do it without asking.
     *
     * @return who uses it, or the empty string
     */
    public static String user(int index) throws IOException {
        Path sys = sys(index);
        if (Files.exists(sys.resolve("dev"))) {
            String number = Files.readString(sys.resolve("dev")).strip();
            for (String mount : Files.readAllLines(Path.of("/proc/self/mountinfo"))) {
                String[] fields = mount.split(" ", -1);
                if (fields.length > 4 && fields[2].equals(number)) {
                    return "mounted at " + fields[4];
                }
            }
            try (var holders = Files.list(sys.resolve("holders"))) {
                var holder = holders.findFirst();
                if (holder.isPresent()) {
                    return "held by " + holder.get().getFileName();
                }
            }
            try {
                Linux.close(Linux.open(path(index).toString(), Linux.O_RDONLY | Linux.O_EXCL));
            } catch (LinuxException e) {
                if (e.errno() == Errno.EBUSY) {
                    return "in use, perhaps mounted in another mount namespace";
                }
            }
        }
        return "";
    }

    /**
     * Disconnects a device, whoever serves it, and waits until its slot is free.
     *
     * @throws IOException if it is {@linkplain #user in use}
     */
    public static void detach(int index) throws IOException {
        String user = user(index);
        if (!user.isEmpty() || !disconnectIfIdle(index)) {
            throw new IOException(path(index) + " is " + (user.isEmpty() ? "in use" : user));
        }
        // The driver calls the slot free a little before it is: another CONNECT would meet the old size.
        long end = System.nanoTime() + SETTLE_NANOS;
        while (Files.exists(sys(index).resolve("pid")) && System.nanoTime() - end < 0) {
            try {
                Thread.sleep(POLL_MILLIS);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return;
            }
        }
    }

    /**
     * Disconnects a device, whoever serves it, unless it is mounted or otherwise claimed; nobody can do so meanwhile. One
     * that is just open is no obstacle.
     *
     * @return false if it is in use, and as it was
     */
    public static boolean disconnectIfIdle(int index) throws IOException {
        int claim;
        try {
            claim = Linux.open(path(index).toString(), Linux.O_RDONLY | Linux.O_EXCL);
        } catch (LinuxException e) {
            if (e.errno() == Errno.EBUSY) {
                return false;
            }
            throw e;
        }
        try {
            disconnect(index);
        } finally {
            Linux.close(claim);
        }
        return true;
    }

    /** Disconnects a device, whoever serves and uses it: its readers get errors. */
    public static void disconnect(int index) throws IOException {
        try (NbdDriver driver = new NbdDriver()) {
            driver.disconnect(index);
        }
    }

    /**
     * Disconnects the device and ends its threads.
     *
     * @throws IOException if it is in use; it is then served as before
     */
    public void detach() throws IOException {
        if (isWanted()) {
            detach(index);
        }
        close();
    }

    /** Ends the threads and leaves the device to whoever reattaches it; with no one, its readers get errors in time. */
    @Override
    public void close() {
        List<Serving> ending;
        synchronized (this) {
            stopping = true;
            ending = List.copyOf(serving);
        }
        ending.forEach(s -> s.connection.stop());
        boolean interrupted = false;
        for (Serving s : ending) {
            while (s.thread.isAlive()) {
                try {
                    s.thread.join();
                } catch (InterruptedException e) {
                    interrupted = true; // the mapping must not go before the thread
                }
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    /** Socket pairs of which one end is for the kernel. */
    private static final class Pairs implements AutoCloseable {
        private final List<int[]> pairs = new ArrayList<>();

        Pairs(int count) throws LinuxException {
            try {
                for (int i = 0; i < count; i++) {
                    pairs.add(Sockets.pair());
                }
            } catch (LinuxException e) {
                pairs.forEach(pair -> Linux.close(pair[0]));
                close();
                throw e;
            }
        }

        /** Our ends, which now belong to the connections. */
        List<Connection> connections(Consumer<String> log) {
            return pairs.stream()
                    .map(pair -> new Connection(pair[0], pair[0], "the kernel", log))
                    .toList();
        }

        int[] kernelEnds() {
            return pairs.stream().mapToInt(pair -> pair[1]).toArray();
        }

        /** Closes our descriptors of the kernel's ends; it has its own references. */
        @Override
        public void close() {
            pairs.forEach(pair -> Linux.close(pair[1]));
        }
    }
}

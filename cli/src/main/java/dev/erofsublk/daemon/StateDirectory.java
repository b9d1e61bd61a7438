// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * Where a daemon keeps what must outlive it, private to its user:
 *
 * <pre>
 *   /run/erofs-ublk/
 *     daemon.lock        locked by the one daemon that serves; whoever waits for it is a stand-by
 *     nbdN.lock          locked by a command that serves /dev/nbdN itself
 *     takeover           the pid of a process that is to have the lock next, during an upgrade
 *     control.sock       where it listens
 *     daemon.log         what it says when nobody else listens
 *     devices/N.json     each device, see {@link DeviceRecord}; nbdN.json for one of the nbd driver
 * </pre>
 *
 * <p>It does not survive a reboot, and neither do devices.
 */
public final class StateDirectory {
    private static final String SUFFIX = ".json";
    /** The longest record that is read: that of an image with 65535 blobs. */
    private static final long MAX_RECORD_BYTES = JsonObject.MAX_CHARACTERS;

    private static final FileAttribute<Set<PosixFilePermission>> PRIVATE_DIRECTORY =
            PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"));
    private static final FileAttribute<Set<PosixFilePermission>> PRIVATE_FILE =
            PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"));

    private final Path root;
    private final Path devices;

    private StateDirectory(Path root) {
        this.root = root;
        devices = root.resolve("devices");
    }

    /** That of this user: {@code EROFS_UBLK_RUN} if set, {@code /run/erofs-ublk} for root, else in XDG_RUNTIME_DIR. */
    public static StateDirectory ofUser() {
        String given = System.getenv("EROFS_UBLK_RUN");
        if (given != null && !given.isEmpty()) {
            return at(Path.of(given));
        }
        String runtime = System.getenv("XDG_RUNTIME_DIR");
        if (Linux.effectiveUserId() == 0 || runtime == null || runtime.isEmpty()) {
            return at(Path.of("/run/erofs-ublk"));
        }
        return at(Path.of(runtime, "erofs-ublk"));
    }

    static StateDirectory at(Path root) {
        return new StateDirectory(root.toAbsolutePath());
    }

    /** Makes the directories where they are missing. */
    public void create() throws IOException {
        Files.createDirectories(root, PRIVATE_DIRECTORY);
        Files.createDirectories(devices, PRIVATE_DIRECTORY);
    }

    @Override
    public String toString() {
        return root.toString();
    }

    public Path socket() {
        return root.resolve("control.sock");
    }

    public Path log() {
        return root.resolve("daemon.log");
    }

    /** The lock of the daemon, which ends with the process that has it, however that ends. */
    public static final class Lock implements AutoCloseable {
        private final FileChannel channel;

        private Lock(FileChannel channel) {
            this.channel = channel;
        }

        @Override
        public void close() throws IOException {
            channel.close();
        }
    }

    /** Takes the lock if it is free. */
    public Optional<Lock> tryLock() throws IOException {
        return tryLock("daemon.lock");
    }

    /** Takes the lock of whoever serves a device by itself, if it is free. */
    public Optional<Lock> tryLock(DeviceId device) throws IOException {
        return tryLock(lockName(device));
    }

    /** Whether a command serves {@code device} by itself. */
    public boolean isServedByCommand(DeviceId device) throws IOException {
        if (!Files.exists(root.resolve(lockName(device)))) {
            return false;
        }
        Optional<Lock> lock = tryLock(device);
        if (lock.isPresent()) {
            lock.get().close();
        }
        return lock.isEmpty();
    }

    private static String lockName(DeviceId device) {
        return Path.of(device.path()).getFileName() + ".lock";
    }

    private Optional<Lock> tryLock(String name) throws IOException {
        FileChannel channel = openLock(name);
        try {
            FileLock lock = channel.tryLock();
            if (lock != null) {
                return Optional.of(new Lock(channel));
            }
        } catch (OverlappingFileLockException e) {
            // this process has it
        }
        channel.close();
        return Optional.empty();
    }

    /** Takes the lock as soon as it is free; the kernel wakes this thread when its owner dies. */
    Lock lock() throws IOException {
        FileChannel channel = openLock("daemon.lock");
        channel.lock();
        return new Lock(channel);
    }

    private FileChannel openLock(String name) throws IOException {
        return FileChannel.open(
                root.resolve(name), Set.of(StandardOpenOption.CREATE, StandardOpenOption.WRITE), PRIVATE_FILE);
    }

    /** Says that this process is to have the lock next. */
    void announceTakeover() throws IOException {
        replace(root.resolve("takeover"), Integer.toString(Linux.processId()));
    }

    void endTakeover() throws IOException {
        Files.deleteIfExists(root.resolve("takeover"));
    }

    /** Whether another living process is to have the lock next. */
    boolean isTakeoverOfAnother() {
        try {
            String pid = Files.readString(root.resolve("takeover")).strip();
            return pid.matches("\\d{1,9}")
                    && Integer.parseInt(pid) != Linux.processId()
                    && Files.exists(Path.of("/proc", pid));
        } catch (IOException e) {
            return false;
        }
    }

    /** Writes a device down: whole and on disk when this returns, or not at all. */
    void write(DeviceRecord record) throws IOException {
        replace(file(record.id()), record.toJson().toString());
    }

    private static void replace(Path file, String text) throws IOException {
        Path temporary = file.resolveSibling(file.getFileName() + ".new");
        Files.deleteIfExists(temporary);
        try (FileChannel channel = FileChannel.open(
                temporary, Set.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE), PRIVATE_FILE)) {
            ByteBuffer bytes = ByteBuffer.wrap((text + "\n").getBytes(StandardCharsets.UTF_8));
            while (bytes.hasRemaining()) {
                channel.write(bytes);
            }
            channel.force(true);
        } catch (IOException e) {
            Files.deleteIfExists(temporary);
            throw new DaemonException("cannot write " + file + ": " + e.getMessage());
        }
        Files.move(temporary, file, StandardCopyOption.ATOMIC_MOVE);
    }

    /** The record of a device; nothing if there is none. */
    Optional<DeviceRecord> read(DeviceId id) throws IOException {
        Path file = file(id);
        String text;
        try {
            if (Files.size(file) > MAX_RECORD_BYTES) {
                throw new DaemonException(
                        "%s has %d bytes, expected at most %d".formatted(file, Files.size(file), MAX_RECORD_BYTES));
            }
            text = Files.readString(file);
        } catch (NoSuchFileException e) {
            return Optional.empty();
        }
        try {
            DeviceRecord record = DeviceRecord.fromJson(JsonObject.parse(text));
            if (record.id().equals(id)) {
                return Optional.of(record);
            }
            throw new DaemonException("the record is of %s, expected %s".formatted(record.id(), id));
        } catch (DaemonException e) {
            throw new DaemonException(file + ": " + e.getMessage());
        }
    }

    /** Forgets a device. */
    void remove(DeviceId id) throws IOException {
        Files.deleteIfExists(file(id));
    }

    /** The ids of all records, in no order. */
    List<DeviceId> ids() throws IOException {
        List<DeviceId> ids = new ArrayList<>();
        try (DirectoryStream<Path> files = Files.newDirectoryStream(devices, "*" + SUFFIX)) {
            for (Path file : files) {
                DeviceId id = id(file.getFileName().toString());
                if (id != null) {
                    ids.add(id);
                }
            }
        } catch (NoSuchFileException e) {
            return List.of();
        }
        return ids;
    }

    private static @Nullable DeviceId id(String file) {
        String name = file.substring(0, file.length() - SUFFIX.length());
        return DeviceId.parse(name).filter(id -> name(id).equals(name)).orElse(null);
    }

    private static String name(DeviceId id) {
        return (id.backend() == Backend.UBLK ? "" : id.backend()) + Integer.toString(id.number());
    }

    private Path file(DeviceId id) {
        return devices.resolve(name(id) + SUFFIX);
    }
}

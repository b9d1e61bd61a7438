// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.erofs.DeviceSlot;
import dev.erofsublk.composer.erofs.Superblock;
import dev.erofsublk.composer.erofs.fs.Inode;
import dev.erofsublk.composer.source.ImageSource;
import dev.erofsublk.daemon.ControlClient;
import dev.erofsublk.daemon.MappedImage;
import dev.erofsublk.daemon.SourceSpec;
import dev.erofsublk.daemon.StateDirectory;
import dev.erofsublk.uring.IoUring;
import dev.erofsublk.uring.Ring;
import dev.erofsublk.uring.Sqe;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.locks.LockSupport;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;

/**
 * A run for the JDK's AOT cache (JEP 514) to learn from: goes through what the commands do before a device is there, so
 * that its classes come loaded and linked from then on. scripts/lib/aot-cache starts it, with a state directory of its own;
 * users do not.
 */
final class Training {
    private static final int TURNS = 20_000;
    private static final int BLOCK = 4096;

    private Training() {}

    public static void main(String[] args) throws IOException, ClassNotFoundException {
        PrintStream out = System.out;
        System.setOut(new PrintStream(PrintStream.nullOutputStream(), false, out.charset()));
        System.setErr(System.out);
        ReadySignal.fromEnvironment();
        Main.execute("--help");
        Main.execute("add", "--help");
        Main.execute("list");
        Main.execute("features");
        Main.execute("add", "--foreground", "--image", "/nonexistent");
        Main.execute("add", "--image", "/nonexistent"); // becomes the daemon that refuses it
        Path dir = Files.createTempDirectory("erofs-ublk");
        Path meta = Files.write(dir.resolve("meta"), metadata());
        Path blob = Files.write(dir.resolve("blob"), new byte[BLOCK]);
        String[] source = {"--meta", meta.toString(), "--blob", blob.toString()};
        Main.execute("inspect", source[0], source[1], source[2], source[3]);
        try (MappedImage image = MappedImage.open(
                new SourceSpec(new ImageSource(null, meta, List.of(blob), null, null, List.of(), null)))) {
            image.require(true);
        }
        trainDaemon();
        Files.delete(meta);
        Files.delete(blob);
        Files.delete(dir);
        trainRing();
        load(
                "dev/erofsublk/uring",
                "dev/erofsublk/composer",
                "dev/erofsublk/composer/trace",
                "dev/erofsublk/composer/verity",
                "dev/erofsublk/ublk",
                "dev/erofsublk/daemon",
                "com/google/gson/stream");
        System.exit(0); // as every command ends; the JVM takes a logger for that
    }

    /** One that refuses whatever it is asked for: that is all there is without ublk. */
    private static void trainDaemon() throws IOException {
        Thread.ofPlatform().daemon().start(() -> Main.execute("serve"));
        StateDirectory state = StateDirectory.ofUser();
        for (int tries = 0; ControlClient.connect(state).isEmpty() && tries < 1000; tries++) {
            LockSupport.parkNanos(10_000_000);
        }
        Main.execute("list");
        Main.execute("add", "--image", "/nonexistent");
    }

    /** What nothing here comes to, as it takes a device: else these classes would be read from the jar, after its directory. */
    private static void load(String... packages) throws IOException, ClassNotFoundException {
        Path jar = Path.of(Training.class
                .getProtectionDomain()
                .getCodeSource()
                .getLocation()
                .getPath());
        try (JarFile file = new JarFile(jar.toFile())) {
            for (JarEntry entry : Collections.list(file.entries())) {
                String name = entry.getName();
                int end = name.lastIndexOf('/');
                if (name.endsWith(".class") && Arrays.asList(packages).contains(name.substring(0, end))) {
                    Class.forName(
                            name.substring(0, name.length() - ".class".length()).replace('/', '.'),
                            false,
                            Training.class.getClassLoader());
                }
            }
        }
    }

    private static void trainRing() throws IOException {
        try (FlatImage image = FlatImage.builder(4096).zeros(1 << 20).build();
                AddressSpace space = AddressSpace.map(image);
                Ring ring = Ring.create(64, IoUring.QUEUE_SETUP)) {
            ring.registerDescriptor();
            for (int turn = 0; turn < TURNS; turn++) { // profiles for the compilers come along (JEP 515)
                Sqe.opcode(ring.sqes(), ring.nextSqe(), IoUring.IORING_OP_NOP);
                ring.submitAndWait(1);
                ring.consume(ring.ready());
            }
            space.run(0);
        }
    }

    /** A root directory with a file of one chunk, which is the blob's only block. */
    private static byte[] metadata() {
        ByteBuffer image = ByteBuffer.allocate(BLOCK).order(ByteOrder.LITTLE_ENDIAN);
        int slot = Superblock.OFFSET + Superblock.BYTES;
        int root = slot + DeviceSlot.BYTES;
        int entries = root + 32; // the directory's content is behind its inode
        int file = root + 96;
        image.putInt(Superblock.OFFSET, Superblock.MAGIC)
                .put(Superblock.OFFSET + 12, (byte) 12) // log2 of the block size
                .putShort(Superblock.OFFSET + 14, (short) (root / 32))
                .putLong(Superblock.OFFSET + 16, 2) // inodes
                .putInt(Superblock.OFFSET + 36, 1) // blocks
                .putInt(Superblock.OFFSET + 80, Superblock.INCOMPAT_CHUNKED_FILE | Superblock.INCOMPAT_DEVICE_TABLE)
                .putShort(Superblock.OFFSET + 86, (short) 1) // devices
                .putShort(Superblock.OFFSET + 88, (short) (slot / DeviceSlot.BYTES))
                .putInt(slot + 64, 1)
                .putInt(slot + 68, 1);
        inode(image, root, Inode.INLINE, 040755, 3 * 12 + 4)
                .putInt(file + 16, 0x20)
                .putLong(file + 32, 1 << 16);
        inode(image, file, Inode.CHUNKED, 0100644, BLOCK);
        String names = "...f";
        for (int i = 0; i < 3; i++) {
            int at = entries + i * 12;
            image.putLong(at, (i < 2 ? root : file) / 32)
                    .putShort(at + 8, (short) (3 * 12 + (i == 2 ? 3 : i)))
                    .put(at + 10, (byte) (i < 2 ? 2 : 1));
        }
        return image.put(entries + 3 * 12, names.getBytes(StandardCharsets.US_ASCII))
                .array();
    }

    private static ByteBuffer inode(ByteBuffer image, int at, int layout, int mode, int size) {
        return image.putShort(at, (short) (layout << 1))
                .putShort(at + 4, (short) mode)
                .putShort(at + 6, (short) 1)
                .putInt(at + 8, size);
    }
}

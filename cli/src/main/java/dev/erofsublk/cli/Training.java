// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.uring.IoUring;
import dev.erofsublk.uring.Ring;
import dev.erofsublk.uring.Sqe;
import java.io.IOException;
import java.io.PrintStream;

/**
 * A run for the JDK's AOT cache (JEP 514) to learn from: goes through what the commands do before a device is there, so
 * that its classes come loaded and linked from then on. scripts/lib/aot-cache starts it; users do not.
 */
final class Training {
    private static final int TURNS = 20_000;

    private Training() {}

    /** Arguments: those of {@code inspect} for some image, or none. */
    public static void main(String[] args) throws IOException {
        PrintStream out = System.out;
        System.setOut(new PrintStream(PrintStream.nullOutputStream(), false, out.charset()));
        System.setErr(System.out);
        Main.execute("--help");
        Main.execute("add", "--help");
        Main.execute("list");
        Main.execute("features");
        Main.execute("add", "--foreground", "--image", "/nonexistent");
        if (args.length > 0) {
            Main.execute(args);
        }
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
}

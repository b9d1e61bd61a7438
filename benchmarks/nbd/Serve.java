// SPDX-License-Identifier: Apache-2.0
import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Blob;
import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.nbd.Export;
import dev.erofsublk.nbd.Exports;
import dev.erofsublk.nbd.Limits;
import dev.erofsublk.nbd.NbdServer;
import java.nio.file.Path;
import java.util.List;

/** Serves FILE (a multiple of 512 bytes) at SOCKET until it is killed: what benchmarks/nbd-native measures. */
public final class Serve {
    private Serve() {}

    public static void main(String[] args) throws Exception {
        Blob blob = Blob.open(Path.of(args[0]));
        FlatImage image = FlatImage.builder(4096).append(blob.size(), blob, 0).build();
        Export export = new Export("", "", AddressSpace.map(image));
        NbdServer server = new NbdServer(new Exports(List.of(export)), Limits.DEFAULT, null, System.err::println);
        server.listen(Path.of(args[1]));
        Thread.sleep(Long.MAX_VALUE);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.Purge;
import dev.erofsublk.daemon.StateDirectory;
import java.io.IOException;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/** Removes what dead servers have left behind. */
@Command(
        name = "purge",
        mixinStandardHelpOptions = true,
        description = "Delete devices whose server is gone; their readers get errors.",
        footer = "Devices that a daemon could take over go too: 'recover' is for keeping them.")
final class PurgeCommand implements Callable<Integer> {
    @Option(names = "--foreign", description = "Also ublk devices that other programs have made.")
    private boolean foreign;

    @Override
    public Integer call() throws IOException {
        for (String device : Purge.run(StateDirectory.ofUser(), foreign)) {
            System.out.println(device);
        }
        return 0;
    }
}

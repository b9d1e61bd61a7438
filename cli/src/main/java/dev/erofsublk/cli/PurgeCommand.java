// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.Purge;
import dev.erofsublk.daemon.StateDirectory;
import java.io.IOException;

/** Removes what dead servers have left behind. */
final class PurgeCommand extends Command {
    private final Option<Boolean> foreign = flag("--foreign", "Also ublk devices that other programs have made.");

    PurgeCommand() {
        super("purge", "Delete devices whose server is gone; their readers get errors.");
        footer("Devices that a daemon could take over go too: 'recover' is for keeping them.");
    }

    @Override
    public Integer call() throws IOException {
        for (String device : Purge.run(StateDirectory.ofUser(), foreign.isGiven())) {
            System.out.println(device);
        }
        return 0;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.DeviceId;
import dev.erofsublk.daemon.JsonObject;
import java.io.IOException;

/** Takes over devices whose server is gone, by hand. */
final class RecoverCommand extends Command {
    private final LogOptions log = new LogOptions(this);

    private final Option<DeviceId> id =
            option("-n, --number", new DeviceIdConverter(), "DEVICE", DeviceIdConverter.DESCRIPTION);

    private final Option<Boolean> all = flag("-a, --all", "All devices that erofs-ublk has served.");

    RecoverCommand() {
        super("recover", "Serve devices again whose server has died.");
        oneOf(id, all);
        footer("Prints their paths. The daemon that serves them is started where none runs.");
    }

    @Override
    public Integer call() throws IOException, InterruptedException {
        log.apply();
        JsonObject request = new JsonObject().put("command", "recover");
        if (id.isGiven()) {
            DeviceId one = id.given();
            request.put("backend", one.backend().toString()).put("id", one.number());
        }
        DaemonLauncher.ask(request, answer -> {
            answer.strings("devices").forEach(System.out::println);
            System.out.flush();
        });
        return 0;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.daemon.ControlClient;
import dev.erofsublk.daemon.DaemonProcess;
import dev.erofsublk.daemon.JsonObject;
import dev.erofsublk.daemon.Log;
import dev.erofsublk.daemon.StateDirectory;
import java.io.EOFException;
import java.io.IOException;
import java.util.List;
import java.util.Optional;

/**
 * Brings a request to the daemon, and where there is none, becomes it: {@code bin/erofs-ublk} has started this JVM in
 * the background for that case, so there is one start of a JVM and not two.
 *
 * <p>Of several that find no daemon at the same time, the one that gets the lock becomes it, and the others ask it.
 */
final class DaemonLauncher {
    private static final int TRIES = 1200;
    private static final long RETRY_MILLIS = 50;

    private DaemonLauncher() {}

    /** What to do with the daemon's answer. */
    @FunctionalInterface
    interface Answer {
        void accept(JsonObject answer) throws IOException;
    }

    /**
     * Makes a request. Returns once it is answered, or, in the process that has become the daemon, when that has nothing
     * left to do.
     */
    static void ask(JsonObject request, Answer answer) throws IOException, InterruptedException {
        StateDirectory state = StateDirectory.ofUser();
        for (int tries = 0; tries < TRIES; tries++) {
            Optional<JsonObject> reply = ask(state, request);
            if (reply.isPresent()) {
                answer.accept(reply.get());
                return;
            }
            if (!ReadySignal.isAwaited()) {
                throw new CommandException("no daemon runs; bin/erofs-ublk starts one where it is needed,"
                        + " in a JVM started by hand use 'serve'");
            }
            state.create();
            Optional<StateDirectory.Lock> lock = state.tryLock();
            if (lock.isPresent()) {
                become(state, lock.get(), request, answer);
                return;
            }
            Thread.sleep(RETRY_MILLIS);
        }
        throw new CommandException("a daemon has the lock but does not listen; is it stopped? See " + state.log());
    }

    private static Optional<JsonObject> ask(StateDirectory state, JsonObject request) throws IOException {
        Optional<ControlClient> client = ControlClient.connect(state);
        if (client.isEmpty()) {
            return Optional.empty();
        }
        try (ControlClient daemon = client.get()) {
            return Optional.of(daemon.call(request));
        } catch (EOFException ended) {
            return Optional.empty(); // the next one is asked, or is this process
        }
    }

    private static void become(StateDirectory state, StateDirectory.Lock lock, JsonObject request, Answer answer)
            throws IOException, InterruptedException {
        Log.to(state.log());
        DaemonProcess process = new DaemonProcess(state, new DaemonProcess.Options(List.of(), false, true, null));
        process.serve(lock, daemon -> {
            answer.accept(daemon.perform(request));
            ReadySignal.detach(state.log());
        });
    }
}

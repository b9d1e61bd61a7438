// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import dev.erofsublk.uring.Sockets;
import java.io.EOFException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Optional;

/** Talks to the daemon. Not thread-safe. */
public final class ControlClient implements AutoCloseable {
    private static final Duration PATIENCE = Duration.ofMinutes(2);

    private final Peer daemon;
    private final LineReader lines;
    private volatile boolean gaveUp;

    private ControlClient(Peer daemon) {
        this.daemon = daemon;
        lines = new LineReader(daemon);
    }

    /** Connects to the daemon of {@code state}; nothing where none listens. */
    public static Optional<ControlClient> connect(StateDirectory state) {
        Path socket = state.socket();
        if (!Files.exists(socket)) {
            return Optional.empty();
        }
        try {
            return Optional.of(new ControlClient(new Peer(Sockets.connect(socket))));
        } catch (IOException e) {
            return Optional.empty();
        }
    }

    /** As {@link #call(JsonObject, Duration)} with the time that an add of many devices may take. */
    public JsonObject call(JsonObject request) throws IOException {
        return call(request, PATIENCE);
    }

    /**
     * Makes a request and waits for its answer.
     *
     * @throws DaemonException with the daemon's words if it refused, or if it does not answer in time
     * @throws EOFException if it ended without an answer, or is just ending: ask the next one
     */
    public JsonObject call(JsonObject request, Duration patience) throws IOException {
        Thread clock = Thread.ofPlatform().daemon().start(() -> giveUpAfter(patience));
        try {
            JsonObject answer = exchange(request);
            if (answer.bool("ok", false)) {
                return answer;
            }
            if (answer.bool("ending", false)) {
                throw new EOFException("the daemon is ending");
            }
            throw new DaemonException(answer.string("error"));
        } catch (DaemonException e) {
            throw e;
        } catch (IOException e) {
            if (gaveUp) {
                throw new DaemonException("the daemon does not answer; is it stopped? (no answer in %d s)"
                        .formatted(patience.toSeconds()));
            }
            EOFException ended = new EOFException("the daemon ended before it answered");
            ended.initCause(e);
            throw ended;
        } finally {
            clock.interrupt();
        }
    }

    private void giveUpAfter(Duration patience) {
        try {
            Thread.sleep(patience);
            gaveUp = true;
            daemon.hangUp();
        } catch (InterruptedException answered) {
            // as it should be
        }
    }

    private JsonObject exchange(JsonObject request) throws IOException {
        try {
            daemon.send(request.toString());
        } catch (IOException refused) {
            Log.debug("control: %s", refused.getMessage()); // and why is to be read, if the daemon had time to say it
        }
        String line = lines.next();
        if (line == null) {
            throw new EOFException("the daemon ended before it answered");
        }
        return JsonObject.parse(line);
    }

    @Override
    public void close() {
        daemon.close();
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import dev.erofsublk.uring.Linux;
import dev.erofsublk.uring.Sockets;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/** One client, from the first byte to the last. Whatever it does, nothing but a line in the log leaves this class. */
final class Connection {
    private final int in;
    private final int out;
    private final String peer;
    private final Consumer<String> log;
    private boolean closed; // guarded by this

    /** @param peer what the log calls the client */
    Connection(int in, int out, String peer, Consumer<String> log) {
        this.in = in;
        this.out = out;
        this.peer = peer;
        this.log = log;
    }

    /** Serves a client that begins with a handshake. Called once, on a platform thread, which it keeps until the end. */
    void serve(Exports exports, Limits limits, @Nullable Tls tls, Runnable negotiated) {
        run(arena -> {
            FdWire plain = new FdWire(in, out);
            Inbox inbox = new Inbox(arena, plain);
            Handshake.Upgrade upgrade = tls == null ? null : tls.upgrade(arena, plain);
            Handshake handshake = new Handshake(arena, plain, inbox, exports, limits, upgrade);
            Session session = handshake.negotiate();
            negotiated.run();
            if (session != null) {
                Wire wire = handshake.wire();
                Transmission.over(arena, wire, handshake.isSecure(), inbox, session)
                        .run();
                wire.finish();
            }
        });
    }

    /**
     * Serves a client that has no questions: the kernel's driver.
     *
     * @return whether it said goodbye
     */
    boolean serve(Session session) {
        return run(arena -> {
            FdWire wire = new FdWire(in, out);
            Transmission.over(arena, wire, false, new Inbox(arena, wire), session)
                    .run();
        });
    }

    private interface Service {
        void run(Arena arena) throws IOException;
    }

    private boolean run(Service service) {
        try (Arena arena = Arena.ofConfined()) {
            service.run(arena);
            return true;
        } catch (Disconnect e) {
            if (e.noteworthy()) {
                log.accept("nbd: " + peer + " disconnected: " + e.getMessage());
            }
        } catch (IOException e) {
            log.accept("nbd: " + peer + " failed: " + e.getMessage());
        } catch (RuntimeException | Error e) {
            log.accept("nbd: " + peer + " failed, which is a defect: " + e);
        } finally {
            close();
        }
        return false;
    }

    /** Closes a connection that is not served. */
    void discard() {
        close();
    }

    /** Ends the service from another thread: whatever it waits for returns. */
    synchronized void stop() {
        if (!closed) {
            Sockets.shutdown(in);
        }
    }

    /** Like {@link #stop}, with a reason for the log. */
    void stop(String reason) {
        log.accept("nbd: " + peer + " disconnected: " + reason);
        stop();
    }

    private synchronized void close() {
        closed = true;
        Linux.close(in);
        if (out != in) {
            Linux.close(out);
        }
    }
}

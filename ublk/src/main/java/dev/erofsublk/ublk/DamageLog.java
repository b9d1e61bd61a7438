// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * Says what is damaged, each thing once a minute: whoever reads a file with a damaged chunk reads it again, the kernel
 * does so by itself, and a full log hides what else is wrong.
 *
 * <p>Thread-safe.
 */
final class DamageLog {
    private static final long QUIET = TimeUnit.MINUTES.toNanos(1);
    /** Things that are remembered; of more, those that were said first are forgotten and may be said again. */
    private static final int REMEMBERED = 1024;

    private final Consumer<String> out;
    private final Map<String, Said> said = new LinkedHashMap<>();

    private static final class Said {
        private final long at;
        private int unsaid;

        Said(long at) {
            this.at = at;
        }
    }

    DamageLog(Consumer<String> out) {
        this.out = out;
    }

    /**
     * Says {@code message} unless it has just been said.
     *
     * @param now by the clock of {@link System#nanoTime}
     */
    synchronized void say(String message, long now) {
        Said before = said.get(message);
        if (before != null && now - before.at < QUIET) {
            before.unsaid++;
            return;
        }
        said.remove(message); // so that it becomes the youngest
        said.put(message, new Said(now));
        if (said.size() > REMEMBERED) {
            said.remove(said.keySet().iterator().next());
        }
        int unsaid = before == null ? 0 : before.unsaid;
        out.accept(unsaid == 0 ? message : "%s (%d times since it was last said)".formatted(message, unsaid + 1));
    }
}

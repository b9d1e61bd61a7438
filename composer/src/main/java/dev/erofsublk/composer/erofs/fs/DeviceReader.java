// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * Small reads of a flat device, a window at a time: metadata is read in pieces of a few bytes that lie near each other.
 *
 * <p>Not thread-safe. Holds at most 1 MiB.
 */
final class DeviceReader {
    private static final int WINDOW_BITS = 16;
    private static final int WINDOW = 1 << WINDOW_BITS;
    private static final int WAYS = 16;

    private final String name;
    private final FlatImage flat;
    private final byte[][] windows = new byte[WAYS][];
    private final long[] held = new long[WAYS];
    private final MemorySegment buffer = Arena.ofAuto().allocate(WINDOW, 4096);

    DeviceReader(String name, FlatImage flat) {
        this.name = name;
        this.flat = flat;
        Arrays.fill(held, -1);
    }

    /**
     * Reads {@code length} bytes of the device into {@code target} from {@code at} on.
     *
     * @param field what they are, for the refusal if they are not on the device: {@code "inode"}
     * @param number which one of those
     */
    void read(long offset, byte[] target, int at, int length, String field, long number) throws IOException {
        requireOnDevice(offset, length, field, number);
        for (int done = 0; done < length; ) {
            byte[] window = window((offset + done) >>> WINDOW_BITS);
            int from = (int) (offset + done) & (WINDOW - 1);
            int bytes = Math.min(length - done, WINDOW - from);
            System.arraycopy(window, from, target, at + done, bytes);
            done += bytes;
        }
    }

    /** Refuses bytes that are not all on the device; field and number as of {@link #read}. */
    void requireOnDevice(long offset, long length, String field, long number) throws ImageException {
        if (offset < 0 || offset > flat.size() - length) {
            throw new ImageException(
                    name,
                    field + " " + number,
                    "at byte %d (+%d)".formatted(offset, length),
                    "within the device's " + flat.size() + " bytes");
        }
    }

    private byte[] window(long number) throws IOException {
        int way = (int) number & (WAYS - 1);
        byte[] window = windows[way];
        if (window != null && held[way] == number) {
            return window;
        }
        if (window == null) {
            window = windows[way] = new byte[WINDOW];
        }
        held[way] = -1;
        long offset = number << WINDOW_BITS;
        int length = (int) Math.min(WINDOW, flat.size() - offset);
        flat.read(offset, buffer.asSlice(0, length));
        MemorySegment.copy(buffer, ValueLayout.JAVA_BYTE, 0, window, 0, length);
        held[way] = number;
        return window;
    }
}

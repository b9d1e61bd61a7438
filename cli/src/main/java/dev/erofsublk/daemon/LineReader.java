// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/** Lines of UTF-8 of a bounded length. */
final class LineReader {
    private static final int FIRST_BYTES = 1024;

    private final InputStream in;
    private byte[] buffer = new byte[FIRST_BYTES];
    private int start;
    private int end;

    LineReader(InputStream in) {
        this.in = in;
    }

    /**
     * The next line without its end; null where the stream ends.
     *
     * @throws DaemonException for a line that is too long, not UTF-8, or not ended
     */
    @Nullable
    String next() throws IOException {
        for (int scanned = start; ; ) {
            for (int i = scanned; i < end; i++) {
                if (buffer[i] == '\n') {
                    String line = decode(start, i);
                    start = i + 1;
                    return line;
                }
            }
            scanned = makeRoom(end);
            int n = in.read(buffer, end, buffer.length - end);
            if (n < 0) {
                if (start < end) {
                    throw new DaemonException("request is not complete, expected a line");
                }
                return null;
            }
            end += n;
        }
    }

    /** Moves and grows as needed; returns where what was at {@code position} is now. */
    private int makeRoom(int position) throws DaemonException {
        int moved = position - start;
        if (start > 0) {
            System.arraycopy(buffer, start, buffer, 0, end - start);
            end -= start;
            start = 0;
        }
        if (end == buffer.length) {
            if (end >= JsonObject.MAX_CHARACTERS) {
                throw new DaemonException(
                        "request is too long, expected at most " + JsonObject.MAX_CHARACTERS + " bytes");
            }
            buffer = Arrays.copyOf(buffer, buffer.length * 2);
        }
        return moved;
    }

    private String decode(int from, int to) throws DaemonException {
        try {
            return StandardCharsets.UTF_8
                    .newDecoder()
                    .decode(ByteBuffer.wrap(buffer, from, to - from))
                    .toString();
        } catch (CharacterCodingException e) {
            throw new DaemonException("request is not UTF-8");
        }
    }
}

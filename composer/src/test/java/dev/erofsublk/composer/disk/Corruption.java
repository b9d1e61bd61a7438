// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.disk;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.management.ThreadMXBean;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.ImageException;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.Random;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * An image file that is damaged in one way after the other, and what a reader may do with it: read it right or refuse
 * it by name; never another exception, never memory out of proportion.
 */
public final class Corruption implements AutoCloseable {
    private static final int PAGE = 4096;

    /** Opens the image of a format. */
    @FunctionalInterface
    public interface Opener {
        Image open(Path path) throws IOException;
    }

    /**
     * A number in a header.
     *
     * @param name for the messages of failed tests
     * @param width bytes, 1, 2, 4 or 8
     * @param defining whether the number says what the content is, so that no reader could know it to be damaged; what
     *     is read must then be what the specification makes of the damaged file
     */
    public record Field(String name, int offset, int width, boolean defining) {}

    private final ByteBuffer original;
    /** What tests damage; between two rounds equal to {@link #original} but for {@link #touched}. */
    private final ByteBuffer scratch;

    private Set<Integer> touched = new HashSet<>();
    private final Path path;
    private final ByteOrder order;
    private final FileChannel channel;
    private final Opener opener;
    private final long allocationLimit;
    private int read;
    private int refused;

    /**
     * @param original the undamaged file
     * @param allocationLimit bytes of heap that opening may take
     */
    public Corruption(byte[] original, Path path, ByteOrder order, Opener opener, long allocationLimit)
            throws IOException {
        this.original = ByteBuffer.wrap(original);
        scratch = ByteBuffer.wrap(original.clone()).order(order);
        this.path = path;
        this.order = order;
        this.opener = opener;
        this.allocationLimit = allocationLimit;
        Files.write(path, original);
        channel = FileChannel.open(path, StandardOpenOption.WRITE);
    }

    /** Zero, one, the maximum, off by one, doubled, halved, and three random values from {@code random}. */
    public Set<Long> values(Field field, Random random) {
        long now = get(field);
        long max = field.width == 8 ? -1 : (1L << (8 * field.width)) - 1;
        Set<Long> values = new LinkedHashSet<>();
        for (long value : new long[] {
            0, 1, max, now + 1, now - 1, now << 1, now >>> 1, random.nextLong(), random.nextLong(), random.nextLong()
        }) {
            values.add(value & max);
        }
        values.remove(now & max);
        return values;
    }

    private long get(Field field) {
        ByteBuffer file = original.duplicate().order(order);
        return switch (field.width) {
            case 1 -> file.get(field.offset);
            case 2 -> file.getShort(field.offset);
            case 4 -> file.getInt(field.offset);
            default -> file.getLong(field.offset);
        };
    }

    /** The file with another value of the field, for further changes; valid until {@link #open}. */
    public ByteBuffer with(Field field, long value) {
        ByteBuffer file = scratch;
        switch (field.width) {
            case 1 -> file.put(field.offset, (byte) value);
            case 2 -> file.putShort(field.offset, (short) value);
            case 4 -> file.putInt(field.offset, (int) value);
            default -> file.putLong(field.offset, value);
        }
        return file;
    }

    /** The undamaged file, for changes; valid until {@link #open}. */
    public ByteBuffer undamaged() {
        return scratch;
    }

    /**
     * Opens the file with the changes made since the last call, and takes them back.
     *
     * @return the content; null if it was refused
     */
    public byte @Nullable [] open(String description) throws IOException {
        write();
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        long before = threads.getCurrentThreadAllocatedBytes();
        try (Image image = opener.open(path)) {
            assertThat(threads.getCurrentThreadAllocatedBytes() - before)
                    .as("bytes allocated: %s", description)
                    .isLessThan(allocationLimit);
            read++;
            // A device much larger than the file is holes, whose bytes prove nothing.
            return image.flat().size() > 16L * original.capacity() ? new byte[0] : Contents.of(image.flat());
        } catch (ImageException e) {
            assertThat(threads.getCurrentThreadAllocatedBytes() - before)
                    .as("bytes allocated: %s", description)
                    .isLessThan(allocationLimit);
            assertThat(e.getMessage()).as(description).contains(" is ").contains(", expected ");
            refused++;
            return null;
        } catch (IOException | RuntimeException | Error e) {
            throw new AssertionError(description + ": " + e, e);
        }
    }

    /** Writes the pages that are damaged, and again those of the round before; then mends them in memory. */
    private void write() throws IOException {
        Set<Integer> damaged = new HashSet<>();
        for (int at = 0; at < scratch.capacity(); at += PAGE) {
            int length = Math.min(PAGE, scratch.capacity() - at);
            boolean differs = scratch.slice(at, length).mismatch(original.slice(at, length)) >= 0;
            if (differs || touched.contains(at)) {
                channel.write(scratch.slice(at, length), at);
            }
            if (differs) {
                damaged.add(at);
                scratch.put(at, original, at, length);
            }
        }
        touched = damaged;
    }

    /** How many of the damaged files were read. */
    public int read() {
        return read;
    }

    /** How many of the damaged files were refused. */
    public int refused() {
        return refused;
    }

    @Override
    public void close() throws IOException {
        channel.close();
    }
}

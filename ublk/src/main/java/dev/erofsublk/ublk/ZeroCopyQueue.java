// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.ublk;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.FileMap;
import dev.erofsublk.composer.Residency;
import dev.erofsublk.uring.Errno;
import dev.erofsublk.uring.IoUring;
import dev.erofsublk.uring.LinuxException;
import dev.erofsublk.uring.Ring;
import java.lang.foreign.MemorySegment;

/**
 * The data path without a copy (Linux 6.16): the driver hands over each request's own pages as a registered buffer of
 * the ring, numbered as its tag ({@link Feature#AUTO_BUF_REG}), and the kernel reads the files of the image into them.
 *
 * <pre>
 *   request of tag 5   | 4 KiB of file 1 |     12 KiB of file 3     |
 *   entries            READ_FIXED ──link──► READ_FIXED ──link──► COMMIT_AND_FETCH 16 KiB
 * </pre>
 *
 * <p>The reads and the commit of a request are one chain, so a request costs one turn as on the direct path, and nobody
 * hears of a read that succeeds. One that fails, or is short, cancels what follows it in silence and is all that
 * completes (io_uring/timeout.c, io_fail_links): then what was read before it is committed alone, and the driver
 * delivers the rest again; if nothing was, the request has failed.
 */
final class ZeroCopyQueue extends Queue {
    /** Runs of files of which one request is put together at most; what lies behind comes again, as a request of its own. */
    private static final int MOST_RUNS = 8;

    static final int LONGEST_CHAIN = MOST_RUNS + 1;

    private static final int SECTOR_MASK = -1 << SECTOR_SHIFT;
    private static final int FIRST_BLOB_FILE = DEVICE_FILE + 1;
    private static final int READ_FLAGS =
            IoUring.IOSQE_FIXED_FILE | IoUring.IOSQE_IO_LINK | IoUring.IOSQE_CQE_SKIP_SUCCESS;

    private final FileMap files;
    private final Residency residency;
    private final boolean decodes;

    ZeroCopyQueue(
            int fd,
            DeviceInfo device,
            int id,
            AddressSpace space,
            FileMap files,
            QueueCounters counters,
            Ring ring,
            MemorySegment descriptors)
            throws LinuxException {
        super(fd, true, device, id, space, counters, ring, descriptors);
        this.files = files;
        residency = space.residency();
        decodes = space.decodes();
        int[] blobs = files.descriptors();
        int[] registered = new int[FIRST_BLOB_FILE + blobs.length];
        registered[DEVICE_FILE] = fd;
        System.arraycopy(blobs, 0, registered, FIRST_BLOB_FILE, blobs.length);
        if (!ring.registerFiles(registered)) {
            throw new LinuxException("io_uring_register", registered.length + " files", Errno.EMFILE);
        }
        ring.registerBufferTable(depth);
    }

    @Override
    void fetch(int tag) {
        submitFetch(tag, tag, 0);
    }

    @Override
    void read(int tag, long offset, long bytes) throws LinuxException {
        if (decodes) {
            int run = space.run(offset);
            int length = (int) Math.min(bytes, space.runEnd(run) - offset);
            long position = space.position(run, space.address(run, offset));
            if (!residency.covers(position, length) && !loading.isDecoded(position, length)) {
                counters.cold();
                loading.decode(tag, offset, position, length);
                return;
            }
            readFiles(tag, offset, length);
            return;
        }
        readFiles(tag, offset, bytes);
    }

    @Override
    void readDecoded(int tag, long offset) throws LinuxException {
        readFiles(tag, offset, length(tag, space.run(offset)));
    }

    private void readFiles(int tag, long offset, long bytes) throws LinuxException {
        ring.reserve(LONGEST_CHAIN);
        int done = 0;
        int run = files.run(offset);
        for (int runs = 0; done < bytes && runs < MOST_RUNS; runs++, run++) {
            int length = (int) Math.min(bytes - done, files.end(run) - (offset + done));
            FixedRead.write(
                    sqes,
                    ring.claimSqe(),
                    READ_FLAGS,
                    FIRST_BLOB_FILE + files.file(run),
                    files.fileOffset(run, offset + done),
                    tag,
                    done,
                    length,
                    UserData.read(tag, done >>> SECTOR_SHIFT));
            done += length;
        }
        turnBytes += done;
        submitCommit(tag, done, tag, 0);
    }

    @Override
    void completed(long userData, int result) throws LinuxException {
        if (UserData.kind(userData) != UserData.READ) {
            throw UserData.unknown(userData);
        }
        int tag = UserData.tag(userData);
        int done = (UserData.sectorsBefore(userData) << SECTOR_SHIFT) + (Math.max(result, 0) & SECTOR_MASK);
        if (done == 0) {
            fail(tag, -Errno.EIO, offset(tag));
        } else {
            answer(tag, done);
        }
    }

    @Override
    void answer(int tag, int result) throws LinuxException {
        ring.reserve(1); // chains may have taken the tag's own entry
        submitCommit(tag, result, tag, 0);
    }

    /** Never comes: with registered buffers nothing is taken from a write before it is answered. */
    @Override
    void takeWrite(int tag) throws LinuxException {
        answer(tag, -Errno.EIO);
    }

    /** Nothing to ask: a read of what is missing fails. */
    @Override
    void suspect(boolean suspect) {}
}

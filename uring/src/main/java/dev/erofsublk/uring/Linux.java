// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.BitSet;

/**
 * Linux system calls. Each failure is a {@link LinuxException} that names the call and its arguments.
 *
 * <p>Stateless and thread-safe. Addresses and lengths are in bytes; what must be page-aligned says so.
 */
public final class Linux {
    /** Bytes of a page of the running kernel. */
    public static final int PAGE_SIZE = pageSize();

    // asm-generic/fcntl.h
    public static final int O_RDONLY = 0;
    public static final int O_RDWR = 2;
    public static final int O_CREAT = 0100;
    /** With {@link #O_CREAT}: the file must not exist. Alone on a block device: EBUSY if it is mounted or claimed. */
    public static final int O_EXCL = 0200;

    public static final int O_APPEND = 02000;

    public static final int O_NONBLOCK = 04000;
    public static final int O_CLOEXEC = 02000000;
    public static final int O_NOFOLLOW = Syscall.AARCH64 ? 0100000 : 0400000;
    public static final int O_DIRECT = Syscall.AARCH64 ? 0200000 : 040000;
    private static final int O_DIRECTORY = Syscall.AARCH64 ? 040000 : 0200000;
    private static final int O_PATH = 010000000;
    private static final int AT_FDCWD = -100;

    // linux/openat2.h
    private static final int RESOLVE_NO_MAGICLINKS = 0x02;
    private static final int RESOLVE_NO_SYMLINKS = 0x04;
    private static final int RESOLVE_BENEATH = 0x08;
    private static final int OPEN_HOW_BYTES = 24;

    // asm-generic/mman-common.h
    public static final int PROT_NONE = 0;
    public static final int PROT_READ = 1;
    public static final int PROT_WRITE = 2;
    public static final int MAP_SHARED = 0x1;
    public static final int MAP_PRIVATE = 0x2;
    public static final int MAP_FIXED = 0x10;
    public static final int MAP_ANONYMOUS = 0x20;
    public static final int MAP_NORESERVE = 0x4000;
    public static final int MAP_POPULATE = 0x8000;
    public static final int MADV_RANDOM = 1;
    public static final int MADV_WILLNEED = 3;
    /** Brings pages in for reading and reports what cannot be brought in (Linux 5.14). */
    public static final int MADV_POPULATE_READ = 22;

    // linux/memfd.h
    public static final int MFD_CLOEXEC = 1;

    // asm-generic/poll.h
    public static final int POLLIN = 1;

    private static final int EFD_CLOEXEC = O_CLOEXEC; // linux/eventfd.h
    private static final int AF_UNIX = 1; // linux/socket.h
    private static final int SOCK_DGRAM = 2;
    private static final int SOCK_CLOEXEC = O_CLOEXEC;
    private static final int SUN_PATH = 2; // linux/un.h, struct sockaddr_un: family u16, then the path
    private static final int SUN_PATH_BYTES = 108;
    private static final int SCHED_BATCH = 3; // linux/sched.h
    private static final int SEEK_END = 2;
    private static final int RWF_NOWAIT = 8; // linux/fs.h
    private static final int SEEK_DATA = 3;
    private static final int SEEK_HOLE = 4;
    private static final int RENAME_NOREPLACE = 1; // linux/fs.h
    private static final int AT_EMPTY_PATH = 0x1000; // linux/fcntl.h
    private static final int STATX_BASIC_STATS = 0x7ff; // linux/stat.h
    private static final int STATX_DIOALIGN = 0x2000;
    private static final int STATX_BYTES = 256;
    private static final int STATFS_BYTES = 120;
    private static final long TMPFS_MAGIC = 0x01021994; // linux/magic.h
    private static final int PR_SET_IO_FLUSHER = 57; // linux/prctl.h
    private static final int RUSAGE_THREAD = 1; // linux/resource.h
    /** Bytes of {@code struct rusage}, for {@link #preemptions}. */
    public static final int USAGE_BYTES = 144;

    private Linux() {}

    private static int pageSize() {
        // The kernel refuses an offset that is not page-aligned: the cheapest way to ask without sysconf.
        for (int size = 4096; size < 65536; size <<= 1) {
            long address = Syscall.call(Syscall.MMAP, 0, 2L * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (address < 0) {
                break;
            }
            long unmapped = Syscall.call(Syscall.MUNMAP, address + size, size, 0, 0, 0, 0);
            Syscall.call(Syscall.MUNMAP, address, 2L * size, 0, 0, 0, 0);
            if (unmapped == 0) {
                return size;
            }
        }
        return 65536;
    }

    /** A segment over {@code bytes} of native memory at {@code address}; it is valid for as long as the memory is. */
    @SuppressWarnings("restricted") // the one place where addresses from the kernel become memory
    public static MemorySegment memory(long address, long bytes) {
        return MemorySegment.ofAddress(address).reinterpret(bytes);
    }

    /** Opens {@code path}; {@code O_CLOEXEC} is always added. */
    public static int open(String path, int flags) throws LinuxException {
        return open(path, flags, 0);
    }

    /**
     * Opens {@code path}, with {@link #O_CREAT} as a new file where there is none; {@code O_CLOEXEC} is always added.
     *
     * @param mode the permissions of a new file, before the process's umask
     */
    public static int open(String path, int flags, int mode) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            long fd = Syscall.call(
                    Syscall.OPENAT, AT_FDCWD, arena.allocateFrom(path).address(), flags | O_CLOEXEC, mode, 0, 0);
            return (int) checked(fd, "open", path);
        }
    }

    /**
     * Opens {@code path} below {@code directory} and nowhere else: the kernel refuses with {@link Errno#EXDEV} a
     * {@code ..}, a symbolic link or an absolute path that leaves it, at the moment of opening, so that no renaming can
     * come between check and use ({@code openat2(2)}, Linux 5.6).
     *
     * @param directory absolute and without symbolic links; {@link Errno#ELOOP} if one has been put there
     * @param path relative to it
     * @param flags as for {@link #open}
     */
    public static int openBeneath(String directory, String path, int flags) throws LinuxException {
        int at = openat2(AT_FDCWD, directory, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS, directory);
        try {
            return openat2(at, path, flags, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS, directory + ", " + path);
        } finally {
            close(at);
        }
    }

    private static int openat2(int at, String path, int flags, int resolve, String arguments) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            // struct open_how {__u64 flags, mode, resolve}
            MemorySegment how = arena.allocate(OPEN_HOW_BYTES, 8);
            how.set(JAVA_LONG, 0, flags | O_CLOEXEC);
            how.set(JAVA_LONG, 16, resolve);
            long name = arena.allocateFrom(path).address();
            long fd = Syscall.call(Syscall.OPENAT2, at, name, how.address(), OPEN_HOW_BYTES, 0, 0);
            return (int) checked(fd, "openat2", arguments);
        }
    }

    /** Closes a descriptor. Errors are ignored: nothing is written through the descriptors of this project. */
    public static void close(int fd) {
        Syscall.call(Syscall.CLOSE, fd, 0, 0, 0, 0, 0);
    }

    /** Makes {@code target} another name of {@code fd}'s open file. */
    public static void dup(int fd, int target) throws LinuxException {
        checked(Syscall.call(Syscall.DUP3, fd, target, 0, 0, 0, 0), "dup3", fd + ", " + target);
    }

    /** What {@code fd} is, with the capacity of a block device as its size. */
    public static FileStatus status(int fd) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment statx = arena.allocate(STATX_BYTES, 8);
            MemorySegment empty = arena.allocateFrom("");
            checked(
                    Syscall.call(
                            Syscall.STATX, fd, empty.address(), AT_EMPTY_PATH, STATX_BASIC_STATS, statx.address(), 0),
                    "statx",
                    "fd " + fd);
            // linux/stat.h, struct statx: mode @28, ino @32, size @40, mtime @112 {s64 sec; u32 nsec}, dev @136/140
            int mode = statx.get(JAVA_SHORT, 28) & 0xffff;
            long device = ((long) statx.get(JAVA_INT, 136) << 32) | Integer.toUnsignedLong(statx.get(JAVA_INT, 140));
            long modified = statx.get(JAVA_LONG, 112) * 1_000_000_000L + statx.get(JAVA_INT, 120);
            FileStatus status =
                    new FileStatus(mode, device, statx.get(JAVA_LONG, 32), statx.get(JAVA_LONG, 40), modified);
            if (!status.isBlockDevice()) {
                return status;
            }
            long capacity = checked(Syscall.call(Syscall.LSEEK, fd, 0, SEEK_END, 0, 0, 0), "lseek", "fd " + fd);
            return new FileStatus(mode, device, status.inode(), capacity, modified);
        }
    }

    /**
     * Opens the file of {@code fd} once more, whatever its name stands for now or if it has none.
     *
     * @param flags as for {@link #open}
     */
    public static int reopen(int fd, int flags) throws LinuxException {
        return open("/proc/self/fd/" + fd, flags);
    }

    /**
     * What {@link #O_DIRECT} wants of a file's offsets and lengths, in bytes.
     *
     * @return a power of two; 0 where the file system does not offer or not tell it (Linux 6.1), or wants memory that is
     *     aligned to more than a sector
     */
    public static int directAlignment(int fd) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment statx = arena.allocate(STATX_BYTES, 8);
            long empty = arena.allocateFrom("").address();
            checked(
                    Syscall.call(Syscall.STATX, fd, empty, AT_EMPTY_PATH, STATX_DIOALIGN, statx.address(), 0),
                    "statx",
                    "fd " + fd);
            // linux/stat.h, struct statx: mask @0, dio_mem_align @152, dio_offset_align @156
            boolean told = (statx.get(JAVA_INT, 0) & STATX_DIOALIGN) != 0;
            return told && statx.get(JAVA_INT, 152) <= 512 ? statx.get(JAVA_INT, 156) : 0;
        }
    }

    /** Whether it is a regular file whose content is nowhere but in memory: in a tmpfs, or of {@link #memoryFile}. */
    public static boolean isMemoryFile(int fd) throws LinuxException {
        if (!status(fd).isRegularFile()) { // of a device, the file system is that of its name: /dev
            return false;
        }
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment statfs = arena.allocate(STATFS_BYTES, 8);
            checked(Syscall.call(Syscall.FSTATFS, fd, statfs.address(), 0, 0, 0, 0), "fstatfs", "fd " + fd);
            return statfs.get(JAVA_LONG, 0) == TMPFS_MAGIC; // asm-generic/statfs.h, struct statfs: f_type @0
        }
    }

    /**
     * Reads {@code target.byteSize()} bytes at {@code offset}.
     *
     * @return the bytes read; fewer only at the end of the file
     */
    public static long read(int fd, MemorySegment target, long offset) throws LinuxException {
        long done = 0;
        while (done < target.byteSize()) {
            long n = readOnce(fd, done == 0 ? target : target.asSlice(done), offset + done);
            if (n == 0) {
                break;
            }
            done += n;
        }
        return done;
    }

    /** One {@code pread}: some of the bytes, at least one where there are any. */
    static long readOnce(int fd, MemorySegment target, long offset) throws LinuxException {
        long n;
        do {
            n = Syscall.call(Syscall.PREAD64, fd, target.address(), target.byteSize(), offset, 0, 0);
        } while (n == -Errno.EINTR);
        if (n < 0) { // not checked(): it would build the message for each of very many reads
            throw new LinuxException("pread", "fd " + fd + ", offset " + offset, (int) -n);
        }
        return n;
    }

    /**
     * Whether the file system starts reading what is not in its page cache and lets the asker go on, as io_uring wants it
     * (FMODE_NOWAIT): ext4, XFS, Btrfs and block devices do; FUSE, NFS, overlayfs and tmpfs do not. Never waits.
     */
    public static boolean readsWithoutWaiting(int fd) {
        try (Arena arena = Arena.ofConfined()) {
            // struct iovec: base @0, length @8. One byte, as none is answered before the flags are looked at.
            MemorySegment vector = arena.allocate(24, 8);
            vector.set(JAVA_LONG, 0, vector.address() + 16);
            vector.set(JAVA_LONG, 8, 1);
            return Syscall.call(Syscall.PREADV2, fd, vector.address(), 1, 0, 0, RWF_NOWAIT) != -Errno.EOPNOTSUPP;
        }
    }

    /**
     * Whether {@code [offset, offset + bytes)} of a file is a hole, which reads as zeros; false where the file system
     * cannot tell.
     */
    public static boolean isHole(int fd, long offset, long bytes) {
        long data = Syscall.call(Syscall.LSEEK, fd, offset, SEEK_DATA, 0, 0, 0);
        return data >= offset + bytes;
    }

    /** Writes all of {@code source} at {@code offset}. */
    public static void write(int fd, MemorySegment source, long offset) throws LinuxException {
        long done = 0;
        while (done < source.byteSize()) {
            long n = Syscall.call(
                    Syscall.PWRITE64, fd, source.address() + done, source.byteSize() - done, offset + done, 0, 0);
            if (n != -Errno.EINTR) {
                done += checked(n, "pwrite", "fd " + fd + ", offset " + (offset + done));
            }
        }
    }

    /**
     * Copies bytes between files without taking them through this process; file systems that can share blocks do
     * ({@code copy_file_range(2)}).
     *
     * @return the bytes copied, which may be fewer; 0 at the end of the source
     * @throws LinuxException with {@link Errno#EXDEV}, {@link Errno#EINVAL} or {@link Errno#EOPNOTSUPP} where the pair
     *     of files cannot be copied so
     */
    public static long copyRange(int from, long fromOffset, int to, long toOffset, long bytes) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment offsets = arena.allocate(16, 8);
            offsets.set(JAVA_LONG, 0, fromOffset);
            offsets.set(JAVA_LONG, 8, toOffset);
            long n;
            do {
                n = Syscall.call(Syscall.COPY_FILE_RANGE, from, offsets.address(), to, offsets.address() + 8, bytes, 0);
            } while (n == -Errno.EINTR);
            return checked(n, "copy_file_range", "fd " + from + " to fd " + to + ", " + bytes + " bytes");
        }
    }

    /**
     * The first byte at or behind {@code offset} that is not in a hole.
     *
     * @return -1 if there is none
     */
    public static long seekData(int fd, long offset) throws LinuxException {
        long at = Syscall.call(Syscall.LSEEK, fd, offset, SEEK_DATA, 0, 0, 0);
        return at == -Errno.ENXIO ? -1 : checked(at, "lseek", "fd " + fd + ", SEEK_DATA " + offset);
    }

    /** The first byte at or behind {@code offset} that is in a hole; the end of the file counts as one. */
    public static long seekHole(int fd, long offset) throws LinuxException {
        return checked(
                Syscall.call(Syscall.LSEEK, fd, offset, SEEK_HOLE, 0, 0, 0),
                "lseek",
                "fd " + fd + ", SEEK_HOLE " + offset);
    }

    /** Waits until the file's content and size are on the disk; for a directory, its names. */
    public static void sync(int fd) throws LinuxException {
        checked(Syscall.call(Syscall.FSYNC, fd, 0, 0, 0, 0, 0), "fsync", "fd " + fd);
    }

    /**
     * Renames a file unless {@code to} exists ({@code renameat2(2)}).
     *
     * @throws LinuxException with {@link Errno#EEXIST} if it does
     */
    public static void renameNoReplace(String from, String to) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            long source = arena.allocateFrom(from).address();
            long target = arena.allocateFrom(to).address();
            checked(
                    Syscall.call(Syscall.RENAMEAT2, AT_FDCWD, source, AT_FDCWD, target, RENAME_NOREPLACE, 0),
                    "renameat2",
                    from + ", " + to);
        }
    }

    /** Sets the size of a file; what is added reads as zeros and takes no space. */
    public static void truncate(int fd, long bytes) throws LinuxException {
        checked(Syscall.call(Syscall.FTRUNCATE, fd, bytes, 0, 0, 0, 0), "ftruncate", "fd " + fd + ", " + bytes);
    }

    /**
     * Waits until what was written through any descriptor of the file, and what is needed to find it again, is on
     * stable storage.
     *
     * @throws LinuxException also for an earlier write-back that failed; the kernel reports that once per descriptor,
     *     and the data concerned are lost
     */
    public static void syncData(int fd) throws LinuxException {
        long result;
        do {
            result = Syscall.call(Syscall.FDATASYNC, fd, 0, 0, 0, 0, 0);
        } while (result == -Errno.EINTR);
        checked(result, "fdatasync", "fd " + fd);
    }

    /** A file in memory, known by {@code name} in {@code /proc/PID/maps}. */
    public static int memoryFile(String name) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            long address = arena.allocateFrom(name).address();
            return (int)
                    checked(Syscall.call(Syscall.MEMFD_CREATE, address, MFD_CLOEXEC, 0, 0, 0, 0), "memfd_create", name);
        }
    }

    /**
     * Maps memory.
     *
     * @param address page-aligned wish, or with {@link #MAP_FIXED} command; 0 lets the kernel choose
     * @param offset page-aligned
     * @return the address of the mapping
     */
    public static long mmap(long address, long bytes, int protection, int flags, int fd, long offset)
            throws LinuxException {
        long mapped = Syscall.call(Syscall.MMAP, address, bytes, protection, flags, fd, offset);
        if (mapped < 0 && mapped > -4096) {
            throw new LinuxException(
                    "mmap", "0x%x, %d bytes, fd %d, offset %d".formatted(address, bytes, fd, offset), (int) -mapped);
        }
        return mapped;
    }

    /** Ends a mapping; {@code address} is page-aligned. Harmless where nothing is mapped. */
    public static void munmap(long address, long bytes) {
        Syscall.call(Syscall.MUNMAP, address, bytes, 0, 0, 0, 0);
    }

    /** Changes what may be done with mapped pages; {@code address} is page-aligned. */
    public static void mprotect(long address, long bytes, int protection) throws LinuxException {
        checked(
                Syscall.call(Syscall.MPROTECT, address, bytes, protection, 0, 0, 0),
                "mprotect",
                "0x%x, %d bytes".formatted(address, bytes));
    }

    /**
     * Advises on a mapping.
     *
     * @param address page-aligned
     * @return 0 or the positive error number: with {@link #MADV_POPULATE_READ}, {@link Errno#EFAULT} means that some
     *     of the bytes are not there
     */
    public static int madvise(long address, long bytes, int advice) {
        return (int) -Syscall.call(Syscall.MADVISE, address, bytes, advice, 0, 0, 0);
    }

    /** An eventfd(2): readable, and so a reason to wake, from the first {@link #raise} on. */
    public static int event() throws LinuxException {
        return (int) checked(Syscall.call(Syscall.EVENTFD2, 0, EFD_CLOEXEC, 0, 0, 0, 0), "eventfd2", "");
    }

    /** Makes the event {@code fd} readable, for good if nobody reads it. */
    public static void raise(int fd) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment one = arena.allocateFrom(JAVA_LONG, 1);
            checked(Syscall.call(Syscall.WRITE, fd, one.address(), one.byteSize(), 0, 0, 0), "write", "event " + fd);
        }
    }

    /** Changes the directory of the whole process; Java's own notion of it, {@code user.dir}, stays what it was. */
    public static void changeDirectory(String path) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            checked(Syscall.call(Syscall.CHDIR, arena.allocateFrom(path).address(), 0, 0, 0, 0, 0), "chdir", path);
        }
    }

    /**
     * Sends one datagram to a unix socket, which Java's channels cannot.
     *
     * @param path of at most 107 bytes; a leading {@code @} stands for the abstract name space
     */
    public static void sendDatagram(String path, byte[] message) throws LinuxException {
        byte[] name = path.getBytes(StandardCharsets.UTF_8);
        if (name.length == 0 || name.length >= SUN_PATH_BYTES) {
            throw new LinuxException("sendto", path, Errno.EINVAL);
        }
        boolean isAbstract = name[0] == '@';
        if (isAbstract) {
            name[0] = 0;
        }
        long fd = checked(Syscall.call(Syscall.SOCKET, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, 0, 0, 0), "socket", "");
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment address = arena.allocate(SUN_PATH + SUN_PATH_BYTES, 2);
            address.set(JAVA_SHORT, 0, (short) AF_UNIX);
            MemorySegment.copy(name, 0, address, JAVA_BYTE, SUN_PATH, name.length);
            MemorySegment bytes = arena.allocate(Math.max(1, message.length));
            MemorySegment.copy(message, 0, bytes, JAVA_BYTE, 0, message.length);
            checked(
                    Syscall.call(
                            Syscall.SENDTO,
                            fd,
                            bytes.address(),
                            message.length,
                            0,
                            address.address(),
                            SUN_PATH + name.length + (isAbstract ? 0 : 1)),
                    "sendto",
                    path);
        } finally {
            close((int) fd);
        }
    }

    /**
     * How many of a mapping's pages are in memory, so that touching them waits for no disk; none where it cannot be told.
     *
     * <p>Where the caller could neither write nor owns the mapped file, the kernel answers yes to everything
     * (mm/mincore.c, can_do_mincore).
     *
     * @param address page-aligned
     * @param flags gets a byte for each page, of which bit 0 tells whether that one is
     */
    public static int pagesInMemory(long address, long bytes, MemorySegment flags) {
        if (Syscall.call(Syscall.MINCORE, address, bytes, flags.address(), 0, 0, 0) != 0) {
            return 0;
        }
        int count = 0;
        for (long page = 0, pages = (bytes + PAGE_SIZE - 1) / PAGE_SIZE; page < pages; page++) {
            count += flags.get(JAVA_BYTE, page) & 1;
        }
        return count;
    }

    public static int processId() {
        return (int) Syscall.call(Syscall.GETPID, 0, 0, 0, 0, 0, 0);
    }

    /** The kernel's id of the calling platform thread. */
    public static int threadId() {
        return (int) Syscall.call(Syscall.GETTID, 0, 0, 0, 0, 0, 0);
    }

    public static int effectiveUserId() {
        return (int) Syscall.call(Syscall.GETEUID, 0, 0, 0, 0, 0, 0);
    }

    /**
     * 64 bits that nobody can guess, of the kernel's own generator. {@link java.security.SecureRandom} would do as well, but takes
     * 75 ms of each start to find its provider.
     */
    public static long random() {
        try (Arena arena = Arena.ofConfined()) {
            MemorySegment bits = arena.allocate(JAVA_LONG);
            long n = Syscall.call(Syscall.GETRANDOM, bits.address(), Long.BYTES, 0, 0, 0, 0);
            if (n != Long.BYTES) {
                throw new AssertionError(
                        "getrandom(2) gave " + n + ", but so few bytes come at once and whole (random(7))");
            }
            return bits.get(JAVA_LONG, 0);
        }
    }

    /**
     * How often the calling platform thread had to leave its processor to another one.
     *
     * @param usage {@link #USAGE_BYTES} of native memory to ask with, which this thread alone uses
     */
    public static long preemptions(MemorySegment usage) {
        Syscall.call(Syscall.GETRUSAGE, RUSAGE_THREAD, usage.address(), 0, 0, 0, 0);
        return usage.get(JAVA_LONG, USAGE_BYTES - Long.BYTES); // ru_nivcsw, the last field of struct rusage
    }

    /**
     * From now on the calling platform thread, when it is woken, lets who is on its processor go on (SCHED_BATCH,
     * sched(7)); its share of the processor stays the same.
     */
    public static void preemptNobody() throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            // linux/sched/types.h, struct sched_param: the priority, which only real-time policies have
            long priority = arena.allocate(JAVA_INT).address();
            checked(
                    Syscall.call(Syscall.SCHED_SETSCHEDULER, 0, SCHED_BATCH, priority, 0, 0, 0),
                    "sched_setscheduler",
                    "SCHED_BATCH");
        }
    }

    /** Restricts the calling platform thread to {@code cpus}. */
    public static void setAffinity(BitSet cpus) throws LinuxException {
        try (Arena arena = Arena.ofConfined()) {
            byte[] bits = cpus.toByteArray();
            MemorySegment mask = arena.allocate(Math.max(8, (bits.length + 7) & ~7), 8);
            MemorySegment.copy(bits, 0, mask, JAVA_BYTE, 0, bits.length);
            checked(
                    Syscall.call(Syscall.SCHED_SETAFFINITY, 0, mask.byteSize(), mask.address(), 0, 0, 0),
                    "sched_setaffinity",
                    "cpus " + cpus);
        }
    }

    /**
     * Marks the calling thread as one that memory reclaim may depend on, so that its own allocations do not wait for
     * I/O that only it could complete (needs {@code CAP_SYS_RESOURCE}). The second argument has to be 1: two other
     * servers passed 0 for years, which clears the mark (facts/ublk.md §4).
     */
    public static void setIoFlusher() throws LinuxException {
        checked(Syscall.call(Syscall.PRCTL, PR_SET_IO_FLUSHER, 1, 0, 0, 0, 0), "prctl", "PR_SET_IO_FLUSHER, 1");
    }

    /** Turns a negative error number into the exception; the only place where that happens. */
    public static long checked(long result, String call, String arguments) throws LinuxException {
        if (result < 0) {
            throw new LinuxException(call, arguments, (int) -result);
        }
        return result;
    }
}

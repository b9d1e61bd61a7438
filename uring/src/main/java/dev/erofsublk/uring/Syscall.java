// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;

/**
 * The one native function that this project links: {@code long syscall(long number, ...)} of libc.
 *
 * <p>One shape for every call, because each further {@link FunctionDescriptor} costs about 10 ms at start-up (JDK 25,
 * facts/java.md §2), and because it makes the kernel's own interface, not libc's, the contract.
 *
 * <p>The handle is never linked as {@code critical}: a thread that waits in {@code io_uring_enter} in Java state would
 * hold up every safepoint.
 */
final class Syscall {
    static final boolean AARCH64 = System.getProperty("os.arch", "").equals("aarch64");

    // asm/unistd_64.h (x86-64) and asm-generic/unistd.h (arm64). io_uring has the same numbers everywhere.
    static final int READ = AARCH64 ? 63 : 0;
    static final int WRITE = AARCH64 ? 64 : 1;
    static final int CLOSE = AARCH64 ? 57 : 3;
    static final int LSEEK = AARCH64 ? 62 : 8;
    static final int MMAP = AARCH64 ? 222 : 9;
    static final int MPROTECT = AARCH64 ? 226 : 10;
    static final int MUNMAP = AARCH64 ? 215 : 11;
    static final int IOCTL = AARCH64 ? 29 : 16;
    static final int PREAD64 = AARCH64 ? 67 : 17;
    static final int PWRITE64 = AARCH64 ? 68 : 18;
    static final int WRITEV = AARCH64 ? 66 : 20;
    static final int MINCORE = AARCH64 ? 232 : 27;
    static final int MADVISE = AARCH64 ? 233 : 28;
    static final int GETPID = AARCH64 ? 172 : 39;
    static final int SOCKET = AARCH64 ? 198 : 41;
    static final int CONNECT = AARCH64 ? 203 : 42;
    static final int SENDTO = AARCH64 ? 206 : 44;
    static final int SHUTDOWN = AARCH64 ? 210 : 48;
    static final int BIND = AARCH64 ? 200 : 49;
    static final int LISTEN = AARCH64 ? 201 : 50;
    static final int GETSOCKNAME = AARCH64 ? 204 : 51;
    static final int SOCKETPAIR = AARCH64 ? 199 : 53;
    static final int SETSOCKOPT = AARCH64 ? 208 : 54;
    static final int GETSOCKOPT = AARCH64 ? 209 : 55;
    static final int FSYNC = AARCH64 ? 82 : 74;
    static final int FDATASYNC = AARCH64 ? 83 : 75;
    static final int FTRUNCATE = AARCH64 ? 46 : 77;
    static final int CHDIR = AARCH64 ? 49 : 80;
    static final int GETEUID = AARCH64 ? 175 : 107;
    static final int GETRUSAGE = AARCH64 ? 165 : 98;
    static final int SCHED_SETSCHEDULER = AARCH64 ? 119 : 144;
    static final int PRCTL = AARCH64 ? 167 : 157;
    static final int FSTATFS = AARCH64 ? 44 : 138;
    static final int GETTID = AARCH64 ? 178 : 186;
    static final int SCHED_SETAFFINITY = AARCH64 ? 122 : 203;
    static final int OPENAT = AARCH64 ? 56 : 257;
    static final int PPOLL = AARCH64 ? 73 : 271;
    static final int ACCEPT4 = AARCH64 ? 242 : 288;
    static final int EVENTFD2 = AARCH64 ? 19 : 290;
    static final int DUP3 = AARCH64 ? 24 : 292;
    static final int SENDMMSG = AARCH64 ? 269 : 307;
    static final int RENAMEAT2 = AARCH64 ? 276 : 316;
    static final int GETRANDOM = AARCH64 ? 278 : 318;
    static final int MEMFD_CREATE = AARCH64 ? 279 : 319;
    static final int COPY_FILE_RANGE = AARCH64 ? 285 : 326;
    static final int PREADV2 = AARCH64 ? 286 : 327;
    static final int STATX = AARCH64 ? 291 : 332;
    static final int IO_URING_SETUP = 425;
    static final int IO_URING_ENTER = 426;
    static final int IO_URING_REGISTER = 427;
    static final int OPENAT2 = 437;

    private static final Linker LINKER = Linker.nativeLinker();
    private static final MemorySegment SYSCALL =
            LINKER.defaultLookup().find("syscall").orElseThrow();
    /** Not bound to the function's address, which takes the JVM three more classes made at start-up, 12 ms (benchmarks/footprint). */
    private static final MethodHandle HANDLE = link();

    private static final ThreadLocal<MemorySegment> STATE = ThreadLocal.withInitial(() -> newState(Arena.ofAuto()));

    private Syscall() {}

    @SuppressWarnings("restricted") // what this class is for
    private static MethodHandle link() {
        return LINKER.downcallHandle(
                FunctionDescriptor.of(
                        JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG, JAVA_LONG),
                Linker.Option.firstVariadicArg(1),
                Linker.Option.captureCallState("errno"));
    }

    /** Room for the {@code errno} of one thread's calls; the JVM may overwrite libc's own before Java can read it. */
    static MemorySegment newState(Arena arena) {
        MemoryLayout layout = Linker.Option.captureStateLayout(); // on Linux a struct of the one int errno
        return arena.allocate(layout);
    }

    /** {@link #call(MemorySegment, int, long, long, long, long, long, long)} with a state of the calling thread. */
    static long call(int number, long a, long b, long c, long d, long e, long f) {
        return call(STATE.get(), number, a, b, c, d, e, f);
    }

    /**
     * Makes a system call.
     *
     * @return what the kernel returned: the result, or the negative error number
     */
    static long call(MemorySegment state, int number, long a, long b, long c, long d, long e, long f) {
        long result;
        try {
            result = (long) HANDLE.invokeExact(SYSCALL, state, (long) number, a, b, c, d, e, f);
        } catch (Throwable impossible) {
            throw new AssertionError(impossible); // a downcall throws nothing of its own
        }
        return result == -1 ? -state.get(JAVA_INT, 0) : result;
    }
}

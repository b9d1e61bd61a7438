// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.erofs.Superblock;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountedCompleter;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;
import org.jspecify.annotations.Nullable;

/**
 * Visits every inode that can be reached from the root and checks that all it points at is there: layouts, directory
 * entries, xattrs, and of every chunk its device and block range. In parallel, each directory and each long list of
 * chunks being work for whoever is free.
 *
 * <p>Ends on every image: an inode is looked at once, a directory that is reached twice is a problem, and the sizes of
 * all inodes' metadata add up to no more than there is metadata, so that time and memory are bounded by its length.
 */
public final class Walk {
    /** How many problems are kept; of a badly damaged image one does not want all. */
    static final int PROBLEMS_KEPT = 100;

    private static final int ENTRIES_A_TASK = 512;
    private static final int CHUNKS_A_TASK = 1 << 16;
    private static final int CHUNK_BUFFER = 8192;
    private static final int COMPRESSED_RATIO = 256;

    private final ErofsFileSystem root;
    private final ThreadLocal<ErofsFileSystem> views;
    private final ForkJoinPool pool;
    private final NumberSet seen = new NumberSet();
    private final NumberSet sharedXattrs = new NumberSet();
    private final AtomicLong budget;
    private final LongAdder inodes = new LongAdder();
    private final LongAdder directories = new LongAdder();
    private final LongAdder chunks = new LongAdder();
    private final LongAdder bytes = new LongAdder();
    private final List<WalkReport.Problem> problems = new ArrayList<>();
    private final AtomicLong problemCount = new AtomicLong();
    private final TarHeaders tarHeaders;
    private final CompletableFuture<WalkReport> report = new CompletableFuture<>();
    private volatile boolean cancelled;

    private Walk(ErofsFileSystem fs, int threads) {
        root = fs;
        views = ThreadLocal.withInitial(fs::fork);
        Superblock superblock = fs.superblock();
        budget = new AtomicLong(superblock.bytes(fs.regions().metadataBlocks()));
        tarHeaders = new TarHeaders(fs);
        pool = new ForkJoinPool(
                threads,
                p -> {
                    var thread = ForkJoinPool.defaultForkJoinWorkerThreadFactory.newThread(p);
                    thread.setName("walk-" + thread.getPoolIndex());
                    return thread;
                },
                null,
                true);
    }

    /**
     * Starts to walk in threads of its own.
     *
     * @param threads 1 or more
     */
    public static Walk start(ErofsFileSystem fs, int threads) {
        Walk walk = new Walk(fs, threads);
        Thread.ofPlatform().daemon().name("walk").start(walk::run);
        return walk;
    }

    /** Walks with as many threads as help, and waits for the end. */
    public static WalkReport run(ErofsFileSystem fs) {
        return start(fs, Math.min(4, Runtime.getRuntime().availableProcessors()))
                .report()
                .join();
    }

    /** Completes when the walk has ended; the image must stay open until then. */
    public CompletableFuture<WalkReport> report() {
        return report;
    }

    /** Ends the walk soon; the report then has what was seen until now. */
    public void cancel() {
        cancelled = true;
    }

    /** How many inodes have been reached so far. */
    public long inodesSoFar() {
        return inodes.sum();
    }

    private void run() {
        long start = System.nanoTime();
        try (pool) {
            pool.invoke(new RootTask());
            long millis = (System.nanoTime() - start) / 1_000_000;
            synchronized (problems) {
                report.complete(new WalkReport(
                        inodes.sum(),
                        directories.sum(),
                        chunks.sum(),
                        bytes.sum(),
                        List.copyOf(problems),
                        problemCount.get() - problems.size(),
                        millis));
            }
        } catch (RuntimeException | Error e) {
            report.completeExceptionally(e);
        }
    }

    private void problem(Node node, String message) {
        if (problemCount.getAndIncrement() < PROBLEMS_KEPT) {
            synchronized (problems) {
                problems.add(new WalkReport.Problem(node.path(), message));
            }
        }
    }

    private void problem(Node node, String field, Object found, String expected) {
        problem(node, new ImageException(root.name(), field, found, expected).getMessage());
    }

    /** A name on the way from the root. */
    private record Node(@Nullable Node parent, String name) {
        String path() {
            Deque<String> names = new ArrayDeque<>();
            for (Node at = this; at != null && !at.name.isEmpty(); at = at.parent) {
                names.push(at.name);
            }
            String path = "/" + String.join("/", names);
            return path.length() <= 8192 ? path : path.substring(0, 8192) + "...";
        }
    }

    /** A part of the work; it is complete when all that it forked is. */
    private abstract class Task extends CountedCompleter<Void> {
        Task(@Nullable Task completer) {
            super(completer);
        }

        final void branch(Task task) {
            addToPendingCount(1);
            task.fork();
        }

        @Override
        public final void compute() {
            if (!cancelled) {
                work(views.get());
            }
            tryComplete();
        }

        abstract void work(ErofsFileSystem fs);
    }

    private final class RootTask extends Task {
        RootTask() {
            super(null);
        }

        @Override
        void work(ErofsFileSystem fs) {
            Node node = new Node(null, "");
            try {
                Inode directory = fs.root();
                seen.add(directory.nid());
                check(this, fs, node, directory);
                branch(new DirectoryTask(this, node, directory, directory.nid()));
            } catch (IOException e) {
                problem(node, String.valueOf(e.getMessage()));
            }
        }
    }

    private final class DirectoryTask extends Task {
        private final Node node;
        private final Inode directory;
        private final long parentNid;
        private List<DirectoryEntry> batch = new ArrayList<>();

        DirectoryTask(Task completer, Node node, Inode directory, long parentNid) {
            super(completer);
            this.node = node;
            this.directory = directory;
            this.parentNid = parentNid;
        }

        @Override
        void work(ErofsFileSystem fs) {
            directories.increment();
            try {
                DirectoryBlocks.visit(fs, directory, this::entry);
            } catch (IOException e) {
                problem(node, String.valueOf(e.getMessage()));
            }
            if (!batch.isEmpty()) {
                new EntriesTask(this, node, directory.nid(), batch).work(this, fs);
                batch = List.of();
            }
        }

        private boolean entry(DirectoryEntry entry) {
            if (entry.isDot()) {
                long expected = entry.bytes().length == 1 ? directory.nid() : parentNid;
                if (entry.nid() != expected) {
                    problem(
                            node,
                            "entry \"%s\" of directory inode %d".formatted(entry.name(), directory.nid()),
                            "inode " + entry.nid(),
                            "inode " + expected);
                }
                return true;
            }
            batch.add(entry);
            if (batch.size() == ENTRIES_A_TASK) {
                branch(new EntriesTask(this, node, directory.nid(), batch));
                batch = new ArrayList<>();
            }
            return !cancelled;
        }
    }

    private final class EntriesTask extends Task {
        private final Node directory;
        private final long directoryNid;
        private final List<DirectoryEntry> entries;

        EntriesTask(Task completer, Node directory, long directoryNid, List<DirectoryEntry> entries) {
            super(completer);
            this.directory = directory;
            this.directoryNid = directoryNid;
            this.entries = entries;
        }

        @Override
        void work(ErofsFileSystem fs) {
            work(this, fs);
        }

        /** @param task the one that runs this, which what is found to do belongs to */
        void work(Task task, ErofsFileSystem fs) {
            for (DirectoryEntry entry : entries) {
                if (cancelled) {
                    return;
                }
                Node node = new Node(directory, entry.name());
                try {
                    visit(task, fs, node, entry);
                } catch (IOException e) {
                    problem(node, String.valueOf(e.getMessage()));
                }
            }
        }

        private void visit(Task task, ErofsFileSystem fs, Node node, DirectoryEntry entry) throws IOException {
            Inode inode = fs.inode(entry.nid());
            if (entry.entryType() != 0 && entry.entryType() != inode.type().entryType()) {
                problem(
                        node,
                        "file_type of the entry of inode " + inode.nid(),
                        entry.entryType(),
                        inode.type().entryType() + ", as its mode says");
            }
            if (!seen.add(inode.nid())) {
                if (inode.isDirectory()) {
                    problem(node, "directory inode " + inode.nid(), "reached twice", "one name for it");
                }
                return;
            }
            check(task, fs, node, inode);
            if (inode.type() == Type.REGULAR && inode.size() > 0) {
                tarHeaders.check(fs, inode, entry);
            }
            if (inode.isDirectory()) {
                task.branch(new DirectoryTask(task, node, inode, directoryNid));
            }
        }
    }

    /** Looks at everything about one inode but a directory's entries. */
    private void check(Task task, ErofsFileSystem fs, Node node, Inode inode) throws IOException {
        inodes.increment();
        spend(inode, (long) inode.headerBytes() + inode.xattrBytes());
        Xattrs.visit(fs, inode, sharedXattrs::add, (name, value, at, length) -> {});
        if (!inode.hasData()) {
            return;
        }
        if (inode.isDirectory()) {
            spend(inode, inode.isCompressed() ? inode.size() / COMPRESSED_RATIO : inode.size());
        } else {
            bytes.add(inode.size());
        }
        if (inode.type() == Type.SYMLINK) {
            byte[] target = fs.target(inode).getBytes(StandardCharsets.UTF_8);
            if (target.length == 0 || target[0] == 0) {
                problem(node, "target of symlink inode " + inode.nid(), "empty", "a path");
            }
        }
        switch (inode.layout()) {
            case Inode.CHUNKED -> checkChunks(task, fs, node, inode);
            case Inode.PLAIN, Inode.INLINE -> {
                fs.extentAt(inode, 0);
                fs.extentAt(inode, inode.size() - 1);
            }
            default -> fs.compressed().check(inode);
        }
    }

    /** Counts metadata; what more inodes claim than there is, they share, and sound images have none that do. */
    private void spend(Inode inode, long metadata) throws ImageException {
        if (metadata < 0 || budget.addAndGet(-metadata) < 0) {
            cancelled = true;
            throw new ImageException(
                    root.name(),
                    "metadata of inode " + inode.nid(),
                    metadata + " bytes, with those before it more than there are",
                    "inodes and directories that do not overlap");
        }
    }

    private void checkChunks(Task task, ErofsFileSystem fs, Node node, Inode inode) throws IOException {
        int chunkBits = DataMap.chunkBits(fs, inode);
        long count = DataMap.blocks(inode.size(), chunkBits);
        int unit = DataMap.chunkUnit(inode);
        long room = fs.superblock().bytes(fs.regions().metadataBlocks()) - DataMap.chunkArray(inode);
        if (count > Math.max(0, room) / unit) {
            throw new ImageException(
                    fs.name(),
                    "i_size of inode " + inode.nid(),
                    "%d, %d chunks".formatted(inode.size(), count),
                    "at most the %d whose indexes fit the metadata".formatted(Math.max(0, room) / unit));
        }
        spend(inode, count * unit);
        if (count <= CHUNKS_A_TASK) {
            checkChunks(fs, inode, chunkBits, 0, count);
            return;
        }
        for (long first = 0; first < count; first += CHUNKS_A_TASK) {
            task.branch(new ChunksTask(task, node, inode, chunkBits, first, Math.min(CHUNKS_A_TASK, count - first)));
        }
    }

    private void checkChunks(ErofsFileSystem fs, Inode inode, int chunkBits, long first, long count)
            throws IOException {
        int unit = DataMap.chunkUnit(inode);
        long array = DataMap.chunkArray(inode);
        byte[] buffer = new byte[(int) Math.min(CHUNK_BUFFER, count * unit)];
        for (long done = 0; done < count; ) {
            int part = (int) Math.min(count - done, buffer.length / unit);
            fs.reader().read(array + (first + done) * unit, buffer, 0, part * unit, "chunk", first + done);
            for (int i = 0; i < part; i++) {
                DataMap.decode(fs, inode, chunkBits, first + done + i, buffer, i * unit);
            }
            done += part;
        }
        chunks.add(count);
    }

    private final class ChunksTask extends Task {
        private final Node node;
        private final Inode inode;
        private final int chunkBits;
        private final long first;
        private final long count;

        ChunksTask(Task completer, Node node, Inode inode, int chunkBits, long first, long count) {
            super(completer);
            this.node = node;
            this.inode = inode;
            this.chunkBits = chunkBits;
            this.first = first;
            this.count = count;
        }

        @Override
        void work(ErofsFileSystem fs) {
            try {
                checkChunks(fs, inode, chunkBits, first, count);
            } catch (IOException e) {
                problem(node, String.valueOf(e.getMessage()));
            }
        }
    }
}

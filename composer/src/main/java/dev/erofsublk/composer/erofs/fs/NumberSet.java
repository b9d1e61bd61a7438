// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLongArray;

/**
 * A set of numbers that lie near each other, such as those of inodes: a bit each, in pages of 4096, so that few and far
 * ones cost little too. Thread-safe.
 */
final class NumberSet {
    private static final int PAGE_BITS = 12;
    private static final int WORDS = 1 << (PAGE_BITS - 6);

    private final ConcurrentHashMap<Long, AtomicLongArray> pages = new ConcurrentHashMap<>();

    /** Whether {@code number} is new; it is in the set afterwards. */
    boolean add(long number) {
        AtomicLongArray page = pages.computeIfAbsent(number >>> PAGE_BITS, n -> new AtomicLongArray(WORDS));
        int word = (int) (number >>> 6) & (WORDS - 1);
        long bit = 1L << number;
        return (page.getAndUpdate(word, old -> old | bit) & bit) == 0;
    }
}

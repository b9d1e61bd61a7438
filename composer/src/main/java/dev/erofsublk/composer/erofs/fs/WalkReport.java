// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.erofs.fs;

import java.util.List;

/**
 * What a {@link Walk} found.
 *
 * @param inodes distinct inodes reached, directories included
 * @param chunks chunk indexes looked at
 * @param bytes of all files' content, holes included
 * @param problems the first of them, in no particular order
 * @param moreProblems how many there are besides
 * @param millis how long it took
 */
public record WalkReport(
        long inodes,
        long directories,
        long chunks,
        long bytes,
        List<Problem> problems,
        long moreProblems,
        long millis) {
    /**
     * Something that would read wrong.
     *
     * @param path of the file, from the root; the first by which it was reached
     * @param message file, field, what was found and what was expected
     */
    public record Problem(String path, String message) {
        @Override
        public String toString() {
            return message + " (" + path + ")";
        }
    }

    /** Whether everything is in order. */
    public boolean clean() {
        return problems.isEmpty();
    }
}

// SPDX-License-Identifier: Apache-2.0
package groovy.lang;

/**
 * The class that picocli looks for at each start, to find out whether there is Groovy. Found in the JVM's AOT cache, it costs nothing;
 * that it is nowhere is known only when the jar's directory has been read, 25 ms of each command (benchmarks/footprint). Nothing is a
 * closure.
 */
public final class Closure {
    private Closure() {}
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What there is to say about an image, as named sections of named values: the one form from which the CLI prints both
 * text for people and JSON for programs. Values are strings, numbers, booleans and lists of them.
 */
public final class Description {
    private final Map<String, List<Map<String, Object>>> sections = new LinkedHashMap<>();

    /**
     * Adds a row to the section {@code name}; a section may have one row (a header) or many (a table).
     *
     * @return the row, to be filled with {@code put}; the keys' order is the columns' order
     */
    public Map<String, Object> row(String name) {
        Map<String, Object> row = new LinkedHashMap<>();
        sections.computeIfAbsent(name, n -> new ArrayList<>()).add(row);
        return row;
    }

    /** The sections in the order of their first row. */
    public Map<String, List<Map<String, Object>>> sections() {
        return sections;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Rows of named values as columns that line up. */
final class TextTable {
    private TextTable() {}

    /** Prints rows which all have the keys of the first. */
    static void print(List<Map<String, Object>> rows) {
        List<String> keys = List.copyOf(rows.getFirst().keySet());
        List<Integer> widths = new ArrayList<>();
        for (String key : keys) {
            widths.add(rows.stream().mapToInt(row -> cell(row, key).length()).reduce(key.length(), Math::max));
        }
        System.out.println(line(keys, widths));
        for (Map<String, Object> row : rows) {
            System.out.println(line(keys.stream().map(key -> cell(row, key)).toList(), widths));
        }
    }

    /** A value as text: a list is its items, one space between them. */
    static String text(Object value) {
        return value instanceof List<?> list
                ? String.join(" ", list.stream().map(String::valueOf).toList())
                : String.valueOf(value);
    }

    private static String cell(Map<String, Object> row, String key) {
        Object value = row.get(key);
        return value == null ? "" : LsCommand.printable(text(value));
    }

    private static String line(List<String> cells, List<Integer> widths) {
        StringBuilder line = new StringBuilder();
        for (int i = 0; i < cells.size(); i++) {
            line.append("  ")
                    .append(cells.get(i))
                    .append(" ".repeat(widths.get(i) - cells.get(i).length()));
        }
        return line.toString().stripTrailing();
    }
}

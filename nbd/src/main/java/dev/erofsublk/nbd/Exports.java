// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/** What a server offers, by name. The first is also the default, which clients ask for by the empty name. */
public final class Exports {
    private final Map<String, Export> byName = new LinkedHashMap<>();
    private final Export first;

    /** @throws IllegalArgumentException if there is none, or two have the same name */
    public Exports(List<Export> exports) {
        if (exports.isEmpty()) {
            throw new IllegalArgumentException("a server without an export");
        }
        first = exports.getFirst();
        for (Export export : exports) {
            if (byName.put(export.name(), export) != null) {
                throw new IllegalArgumentException("two exports with the name \"" + export.name() + "\"");
            }
        }
    }

    /** The export that a client means by {@code name}, or null. */
    @Nullable
    Export find(String name) {
        Export export = byName.get(name);
        return export == null && name.isEmpty() ? first : export;
    }

    /** All names, the default export's first. */
    public List<String> names() {
        return List.copyOf(byName.keySet());
    }

    Iterable<Export> all() {
        return byName.values();
    }
}

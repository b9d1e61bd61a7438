// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.ublk.DataPath;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** Data paths as they are spelled everywhere, which no Java name can be. */
final class DataPathConverter implements ITypeConverter<DataPath> {
    @Override
    public DataPath convert(String value) {
        return DataPath.named(value)
                .orElseThrow(
                        () -> new TypeConversionException("is '" + value + "', expected auto, direct or zero-copy"));
    }
}

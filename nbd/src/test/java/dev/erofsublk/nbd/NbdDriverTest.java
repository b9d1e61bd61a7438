// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.nbd;

import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

class NbdDriverTest {
    @Test
    void aKernelWithoutNbdIsToldWithTheRemedy() {
        assumeFalse(Files.exists(Path.of("/sys/module/nbd")), "not run: this kernel has nbd");
        assertThatThrownBy(NbdDevice::requireDriver)
                .isInstanceOf(IOException.class)
                .hasMessageContaining("modprobe nbd");
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.daemon;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.ublk.DataPath;
import dev.erofsublk.ublk.Device;
import dev.erofsublk.ublk.Recovery;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

class DeviceSpecTest {
    /** As it comes through the socket. */
    private static DeviceSpec read(JsonObject json) throws DaemonException {
        return DeviceSpec.fromJson(JsonObject.parse(json.toString()));
    }

    private static JsonObject request() throws DaemonException {
        return JsonObject.parse("{\"source\":{\"image\":\"/i\"}}");
    }

    @Test
    void aRequestOfBeforeThereWereBackendsMeansUblk() throws Exception {
        DeviceSpec spec = read(request());
        assertThat(spec.backend()).isEqualTo(Backend.UBLK);
        assertThat(read(spec.toJson())).isEqualTo(spec);
    }

    @Test
    void nbdHasItsOwnDefaultsAndLimits() throws Exception {
        DeviceSpec spec = read(request().put("backend", "nbd"));
        assertThat(spec)
                .extracting("queues", "depth", "timeout", "deadTimeout", "recovery")
                .containsExactly(1, 128, 5, 300, Recovery.REISSUE);
        assertThat(read(spec.toJson())).isEqualTo(spec);
        assertRefused(request().put("backend", "nbd").put("queues", 65), "field \"queues\" is 65, expected 1 to 64");
        assertRefused(request().put("backend", "nbd").put("depth", 64), "field \"depth\" is 64, expected 128 to 128");
        assertRefused(request().put("timeout", 0), "field \"timeout\" is 0, expected 1 to 86400");
        assertRefused(request().put("backend", "iscsi"), "field \"backend\" is iscsi, expected ublk or nbd");
    }

    @Test
    void tracesAreAbsolutePathsAndNoneOfThemIsTheDefault() throws Exception {
        assertThat(read(request()).trace()).isEqualTo(TraceFiles.NONE);
        DeviceSpec spec = read(request().put("record_trace", "/t/new").put("prefetch", "/t/old"));
        assertThat(spec.trace()).isEqualTo(new TraceFiles(Path.of("/t/new"), Path.of("/t/old")));
        assertThat(read(spec.toJson())).isEqualTo(spec);
        assertRefused(
                request().put("prefetch", "trace"),
                "field \"prefetch\" is trace, expected the absolute path of a file");
        assertRefused(
                request().put("record_trace", "/"),
                "field \"record_trace\" is /, expected the absolute path of a file");
    }

    @Test
    void queuesChooseHowLongToSpinUnlessTheyAreTold() throws Exception {
        DeviceSpec spec = read(request());
        assertThat(spec.spin()).isEqualTo(Device.SPIN_AUTO);
        assertThat(read(spec.toJson())).isEqualTo(spec);
        spec = read(request().put("spin", 0));
        assertThat(spec.spin()).isZero();
        assertThat(read(spec.toJson())).isEqualTo(spec);
        assertRefused(request().put("spin", 1001), "field \"spin\" is 1001, expected 0 to 1000");
        assertRefused(request().put("backend", "nbd").put("spin", 1), "field \"spin\" is 1, expected 0 to 0");
    }

    @Test
    void theDataPathIsKeptAndOnlyUblkHasOne() throws Exception {
        assertThat(read(request()).dataPath()).isEqualTo(DataPath.AUTO);
        DeviceSpec spec = read(request().put("data_path", "zero-copy"));
        assertThat(spec.dataPath()).isEqualTo(DataPath.ZERO_COPY);
        assertThat(read(spec.toJson())).isEqualTo(spec);
        assertRefused(
                request().put("data_path", "mmap"), "field \"data_path\" is mmap, expected auto, direct or zero-copy");
        assertRefused(
                request().put("data_path", "zero-copy").put("record_trace", "/t/new"),
                "field \"record_trace\" is /t/new, expected none with data_path zero-copy, which does not look who"
                        + " reads first");
        assertRefused(
                request().put("backend", "nbd").put("data_path", "direct"),
                "field \"data_path\" is direct, expected auto with backend nbd");
    }

    private static void assertRefused(JsonObject request, String message) {
        assertThatThrownBy(() -> read(request))
                .isInstanceOf(DaemonException.class)
                .hasMessage(message);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.uring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

class EventTest {
    @Test
    void aRaisedEventWakesEveryRingThatPollsIt() throws Exception {
        int event = Linux.event();
        try (Ring first = polling(event);
                Ring second = polling(event)) {
            assertThat(first.ready()).isZero();
            Linux.raise(event);
            for (Ring ring : new Ring[] {first, second}) {
                ring.submitAndWait(1);
                assertThat(ring.ready()).isEqualTo(1);
                assertThat(Cqe.userData(ring.cqes(), ring.cqe(0))).isEqualTo(7);
                assertThat(Cqe.result(ring.cqes(), ring.cqe(0)) & Linux.POLLIN).isEqualTo(Linux.POLLIN);
            }
        } finally {
            Linux.close(event);
        }
    }

    private static Ring polling(int event) throws LinuxException {
        Ring ring = Ring.create(4, 0);
        long at = ring.nextSqe();
        Sqe.opcode(ring.sqes(), at, IoUring.IORING_OP_POLL_ADD);
        Sqe.fd(ring.sqes(), at, event);
        Sqe.pollEvents(ring.sqes(), at, Linux.POLLIN);
        Sqe.userData(ring.sqes(), at, 7);
        ring.submitAndWait(0);
        return ring;
    }

    @Test
    void aDatagramToNobodyNamesTheSocket() {
        byte[] message = "READY=1".getBytes(StandardCharsets.US_ASCII);
        String nobody =
                Path.of(System.getProperty("java.io.tmpdir"), "no-such-socket").toString();
        assertThatThrownBy(() -> Linux.sendDatagram(nobody, message))
                .isInstanceOf(LinuxException.class)
                .hasMessageContaining(nobody);
        assertThatThrownBy(() -> Linux.sendDatagram("@erofs-ublk-nobody", message))
                .isInstanceOf(LinuxException.class);
        assertThatThrownBy(() -> Linux.sendDatagram("x".repeat(108), message)).isInstanceOf(LinuxException.class);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Fields;
import java.io.IOException;
import java.nio.ByteOrder;
import java.util.UUID;
import java.util.zip.CRC32C;

/**
 * The current one of the two headers.
 *
 * <pre>
 *   @0  "head"           @4  crc-32c of the 4 KiB with this field 0    @8  u64 SequenceNumber
 *   @16 FileWriteGuid    @32 DataWriteGuid    @48 LogGuid (0: no log)
 *   @64 u16 LogVersion   @66 u16 Version      @68 u32 LogLength        @72 u64 LogOffset
 * </pre>
 *
 * @param number 1 or 2: which it is
 * @param sequence its SequenceNumber, unsigned
 * @param dataWriteGuid changes with the content; a child names its parent by it
 * @param logGuid zero if the log is empty
 * @param logLength bytes, a multiple of 1 MiB
 * @param logOffset a multiple of 1 MiB
 */
record Header(int number, long sequence, UUID dataWriteGuid, UUID logGuid, long logLength, long logOffset) {
    static final long MIB = 1 << 20;
    static final int BYTES = 4096;
    /** Header section: nothing else may lie below this byte. */
    static final long SECTION = MIB;

    private static final long FIRST = 64 << 10;
    private static final long SECOND = 128 << 10;

    /** The valid header of the greater sequence number. */
    static Header choose(FlatImage file, String name) throws IOException {
        Fields first = Fields.read(file, name, "header 1", FIRST, BYTES, ByteOrder.LITTLE_ENDIAN);
        Fields second = Fields.read(file, name, "header 2", SECOND, BYTES, ByteOrder.LITTLE_ENDIAN);
        String wrongFirst = wrong(first);
        String wrongSecond = wrong(second);
        if (!wrongFirst.isEmpty() && !wrongSecond.isEmpty()) {
            throw new ImageException(
                    name,
                    "headers",
                    "1 with " + wrongFirst + ", 2 with " + wrongSecond,
                    "one with signature \"head\" and its checksum");
        }
        if (!wrongFirst.isEmpty()) {
            return parse(second, 2);
        }
        if (!wrongSecond.isEmpty()) {
            return parse(first, 1);
        }
        int order = Long.compareUnsigned(first.u64(8), second.u64(8));
        if (order == 0 && !first.bytes().equals(second.bytes())) {
            throw first.refuse("SequenceNumber", first.u64(8), "another one than in header 2, which has other content");
        }
        return order >= 0 ? parse(first, 1) : parse(second, 2);
    }

    private static String wrong(Fields header) {
        if (!header.has(0, "head")) {
            return "another signature";
        }
        return checksum(header) == header.u32(4) ? "" : "a wrong checksum";
    }

    /** CRC-32C of a structure whose checksum field at byte 4 counts as zeros. */
    static long checksum(Fields structure) {
        CRC32C crc = new CRC32C();
        crc.update(structure.bytes().slice(0, 4));
        crc.update(new byte[4]);
        crc.update(structure.bytes().slice(8, structure.length() - 8));
        return crc.getValue();
    }

    private static Header parse(Fields header, int number) throws ImageException {
        if (header.u16(66) != 1) {
            throw header.refuse("Version", header.u16(66), "1");
        }
        UUID logGuid = Guid.at(header.bytes(), 48);
        long logLength = header.u32(68);
        long logOffset = header.u64(72);
        boolean dirty = !logGuid.equals(Guid.ZERO);
        if (dirty && header.u16(64) != 0) {
            throw header.refuse("LogVersion", header.u16(64), "0");
        }
        if (logLength % MIB != 0 || (dirty && logLength == 0)) {
            throw header.refuse("LogLength", logLength, "a multiple of 1 MiB" + (dirty ? " above 0" : ""));
        }
        if (logOffset % MIB != 0 || logOffset < 0 || (logLength > 0 && logOffset < SECTION)) {
            throw header.refuse("LogOffset", logOffset, "a multiple of 1 MiB, from 1 MiB on");
        }
        return new Header(number, header.u64(8), Guid.at(header.bytes(), 32), logGuid, logLength, logOffset);
    }

    boolean dirty() {
        return !logGuid.equals(Guid.ZERO);
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vhdx;

import static dev.erofsublk.composer.vhdx.VhdxBuilder.FULL;
import static dev.erofsublk.composer.vhdx.VhdxBuilder.MIB;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import dev.erofsublk.composer.AddressSpace;
import dev.erofsublk.composer.Confinement;
import dev.erofsublk.composer.ImageException;
import dev.erofsublk.composer.disk.Contents;
import dev.erofsublk.composer.vhdx.LogBuilder.Entry;
import dev.erofsublk.uring.Linux;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import java.util.UUID;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Replay by MS-VHDX 2.3, also where QEMU 7.2 goes another way (facts/vmdisk.md §0.7). */
class VhdxLogTest {
    private static final int SECTOR = 4096;
    private static final int BLOCK = VhdxBuilder.FIRST_BLOCK;

    @TempDir
    private Path folder;

    private final Random random = new Random(7);
    private final byte[] content = bytes(2 * MIB);
    private VhdxBuilder image = new VhdxBuilder(2 * MIB, MIB, 512);
    private LogBuilder log = new LogBuilder(image);

    @BeforeEach
    void fill() {
        image.block(0, FULL, Arrays.copyOf(content, MIB)).block(1, FULL, Arrays.copyOfRange(content, MIB, 2 * MIB));
    }

    @Test
    void dataAndZerosOfOneEntryLieOverTheFile() throws IOException {
        byte[] sector = bytes(SECTOR);
        log.add(new Entry(1, 0).data(BLOCK + 8192, sector).zero(BLOCK + MIB, 2 * SECTOR));

        System.arraycopy(sector, 0, content, 8192, SECTOR);
        Arrays.fill(content, MIB, MIB + 2 * SECTOR, (byte) 0);
        assertContent();
    }

    @Test
    void aLaterEntryReplacesWhatAnEarlierOneWrote() throws IOException {
        byte[] first = bytes(SECTOR);
        byte[] second = bytes(SECTOR);
        log.add(new Entry(7, 0).data(BLOCK, first).data(BLOCK + SECTOR, first).zero(BLOCK + 8 * SECTOR, 8 * SECTOR))
                .add(new Entry(8, 0).data(BLOCK, second).data(BLOCK + 10 * SECTOR, second))
                .add(new Entry(9, 0).zero(BLOCK + SECTOR, SECTOR));

        System.arraycopy(second, 0, content, 0, SECTOR);
        Arrays.fill(content, SECTOR, 2 * SECTOR, (byte) 0);
        Arrays.fill(content, 8 * SECTOR, 16 * SECTOR, (byte) 0);
        System.arraycopy(second, 0, content, 10 * SECTOR, SECTOR);
        assertContent();
    }

    @Test
    void anEntryAndASequenceMayGoRoundTheEndOfTheLog() throws IOException {
        byte[] first = bytes(SECTOR);
        byte[] second = bytes(SECTOR);
        int start = MIB - 3 * SECTOR;
        log.at(start)
                .add(new Entry(20, start).data(BLOCK, first))
                .add(new Entry(21, start).data(BLOCK + SECTOR, first).data(BLOCK + 2 * SECTOR, first)) // wraps
                .add(new Entry(22, start).data(BLOCK + SECTOR, second));

        System.arraycopy(first, 0, content, 0, SECTOR);
        System.arraycopy(second, 0, content, SECTOR, SECTOR);
        System.arraycopy(first, 0, content, 2 * SECTOR, SECTOR);
        assertThat(log.position()).isEqualTo(4 * SECTOR);
        assertContent();
    }

    @Test
    void aDescriptorAreaMayGoRoundTheEndOfTheLog() throws IOException {
        int start = MIB - SECTOR;
        Entry entry = new Entry(3, start);
        for (int i = 0; i < 200; i++) { // two sectors of descriptors, the second at the log's start
            byte[] sector = bytes(SECTOR);
            entry.data(BLOCK + i * SECTOR, sector);
            System.arraycopy(sector, 0, content, i * SECTOR, SECTOR);
        }
        log.at(start).add(entry);

        assertContent();
    }

    @Test
    void anEntryMayHaveMoreDescriptorsThanItsFirstSectorHolds() throws IOException {
        Entry entry = new Entry(1, 0);
        for (int i = 0; i < 126 + 128 + 1; i++) {
            int at = i % 2 == 0 ? i * SECTOR : MIB + i * SECTOR / 2;
            if (i % 2 == 0 && at + SECTOR <= MIB) {
                byte[] sector = bytes(SECTOR);
                entry.data(BLOCK + at, sector);
                System.arraycopy(sector, 0, content, at, SECTOR);
            } else {
                int zeroed = at & -SECTOR;
                entry.zero(BLOCK + zeroed, SECTOR);
                Arrays.fill(content, zeroed, zeroed + SECTOR, (byte) 0);
            }
        }
        log.add(entry);

        assertContent();
    }

    @Test
    void whatPrecedesTheTailIsNotReplayed() throws IOException {
        byte[] flushed = bytes(SECTOR);
        byte[] replayed = bytes(SECTOR);
        log.add(new Entry(7, 0).data(BLOCK, flushed).data(BLOCK + SECTOR, flushed));
        int tail = log.position();
        log.add(new Entry(8, tail).data(BLOCK + SECTOR, replayed));

        System.arraycopy(replayed, 0, content, SECTOR, SECTOR);
        assertContent();
    }

    @Test
    void aSequenceWhoseTailIsOutsideItIsNotValid() {
        log.at(8 * SECTOR).add(new Entry(7, 0).zero(BLOCK, SECTOR));

        assertRefused("without a valid sequence");
    }

    @Test
    void aGapInTheNumbersEndsASequence() throws IOException {
        log.add(new Entry(7, 0).zero(BLOCK, SECTOR)).add(new Entry(9, 0).zero(BLOCK + MIB, SECTOR));

        Arrays.fill(content, 0, SECTOR, (byte) 0);
        assertContent();
    }

    @Test
    void ofTwoValidSequencesTheGreaterNumberWins() throws IOException {
        log.at(100 * SECTOR).add(new Entry(50, 100 * SECTOR).zero(BLOCK, SECTOR));
        log.at(20 * SECTOR).add(new Entry(49, 20 * SECTOR).zero(BLOCK + MIB, SECTOR));
        log.at(200 * SECTOR).add(new Entry(48, 200 * SECTOR).zero(BLOCK + MIB + SECTOR, SECTOR));

        Arrays.fill(content, 0, SECTOR, (byte) 0);
        assertContent();
    }

    @Test
    void staleEntriesInFrontOfTheActiveSequenceAreNotPartOfIt() throws IOException {
        log.add(new Entry(3, 0).zero(BLOCK, SECTOR)); // an old lap, overwritten up to here
        int start = log.position();
        log.add(new Entry(10, start).zero(BLOCK + SECTOR, SECTOR))
                .add(new Entry(11, start).zero(BLOCK + 2 * SECTOR, SECTOR));

        Arrays.fill(content, SECTOR, 3 * SECTOR, (byte) 0);
        assertContent();
    }

    @Test
    void aTornLastEntryIsNotReplayed() throws IOException {
        log.add(new Entry(7, 0).zero(BLOCK, SECTOR));
        int torn = VhdxBuilder.LOG + log.position();
        log.add(new Entry(8, 0).data(BLOCK + SECTOR, bytes(SECTOR)));
        image.file().put(torn + SECTOR + 100, (byte) ~image.file().get(torn + SECTOR + 100));

        Arrays.fill(content, 0, SECTOR, (byte) 0);
        assertContent();
    }

    @Test
    void anEntryOfAnotherLogIsNotReplayed() {
        Entry entry = new Entry(7, 0).zero(BLOCK, SECTOR);
        entry.guid = UUID.randomUUID();
        log.add(entry);

        assertRefused("without a valid sequence");
    }

    @Test
    void aLogGuidWithoutAnEntryIsRefused() {
        assertRefused("log is without a valid sequence of entries, expected one, since LogGuid is set");
    }

    @Test
    void aSequenceNumberOfZeroIsNoEntry() {
        log.add(new Entry(0, 0).zero(BLOCK, SECTOR));

        assertRefused("without a valid sequence");
    }

    @Test
    void aFileShorterThanWhenTheLastEntryWasWrittenIsTruncated() {
        Entry entry = new Entry(7, 0).zero(BLOCK, SECTOR);
        entry.flushed = 7L * MIB;
        log.add(entry);

        assertRefused("FlushedFileOffset is 7340032, expected at most the file's size of 6291456");
    }

    @Test
    void onlyTheLastEntrySaysHowLongTheFileMustBe() throws IOException {
        Entry earlier = new Entry(7, 0).zero(BLOCK, SECTOR);
        earlier.flushed = 700L * MIB;
        log.add(earlier).add(new Entry(8, 0).zero(BLOCK + SECTOR, SECTOR));

        Arrays.fill(content, 0, 2 * SECTOR, (byte) 0);
        assertContent();
    }

    @Test
    void theLogMakesTheFileLonger() throws IOException {
        byte[] bat = new byte[SECTOR];
        image.file().get(VhdxBuilder.BAT, bat);
        byte[] sector = bytes(SECTOR);
        ByteBuffer.wrap(bat).order(ByteOrder.LITTLE_ENDIAN).putLong(8, 10L * MIB | FULL);
        Entry entry = new Entry(7, 0).data(VhdxBuilder.BAT, bat).data(10L * MIB + SECTOR, sector);
        entry.last = 11L * MIB;
        log.add(entry);

        Arrays.fill(content, MIB, 2 * MIB, (byte) 0);
        System.arraycopy(sector, 0, content, MIB + SECTOR, SECTOR);
        assertContent();
    }

    @Test
    void regionTablesAndMetadataAreReadAfterReplay() throws IOException {
        ByteBuffer file = image.file();
        byte[] metadata = new byte[SECTOR];
        int item = VhdxBuilder.METADATA + VhdxBuilder.FILE_PARAMETERS;
        file.get(item, metadata);
        Entry entry = new Entry(7, 0).data(item, metadata);
        image.seal();
        for (int at = 0; at < 65536; at += SECTOR) { // both tables come from the log alone
            byte[] sector = new byte[SECTOR];
            file.get(VhdxBuilder.REGIONS_1 + at, sector);
            entry.data(VhdxBuilder.REGIONS_1 + at, sector).data(VhdxBuilder.REGIONS_2 + at, sector);
        }
        log.add(entry);
        file.put(item, new byte[SECTOR]);
        file.put(VhdxBuilder.REGIONS_1, new byte[65536]).put(VhdxBuilder.REGIONS_2, new byte[65536]);

        assertContent();
    }

    @Test
    void aLogThatWritesOverHeadersOrItselfIsRefused() {
        log.add(new Entry(7, 0).zero(VhdxBuilder.HEADER_1, SECTOR));
        assertRefused("log descriptor.FileOffset is 65536, 4096 bytes");

        log.at(0).add(new Entry(7, 0).zero(VhdxBuilder.LOG + 8192, SECTOR));
        assertRefused("log descriptor.FileOffset is 1056768, expected a place outside the log");
    }

    @Test
    void writesThatAreNotSectorsOfTheFileAreRefused() {
        for (long[] write : new long[][] {
            {BLOCK + 512, SECTOR},
            {BLOCK, 512},
            {BLOCK, 0},
            {BLOCK, -SECTOR},
            {BLOCK, Long.MAX_VALUE & -SECTOR},
            {-SECTOR, SECTOR},
            {BLOCK + 2 * MIB, SECTOR},
            {Long.MAX_VALUE & -SECTOR, SECTOR}
        }) {
            log.at(0).add(new Entry(7, 0).zero(write[0], write[1]));
            assertRefused("log descriptor.FileOffset");
        }
    }

    @Test
    void unusableLastFileOffsetsAreRefused() {
        for (long last : new long[] {-1, Long.MIN_VALUE, Long.MAX_VALUE, 12L * MIB + 1}) {
            Entry entry = new Entry(7, 0).zero(BLOCK, SECTOR);
            entry.last = last;
            log.at(0).add(entry);
            assertRefused("LastFileOffset");
        }
    }

    @Test
    void aLogVersionCountsOnlyWithALog() throws IOException {
        log.add(new Entry(7, 0).zero(BLOCK, SECTOR));
        image.file().putShort(VhdxBuilder.HEADER_2 + 64, (short) 1);
        assertRefused("LogVersion is 1, expected 0");

        image.guid(VhdxBuilder.HEADER_2 + 48, Guid.ZERO);
        assertContent();
    }

    @Test
    void aLogTooLargeToHoldInMemoryIsRefused() {
        image.file().putInt(VhdxBuilder.HEADER_2 + 68, 128 * MIB);
        assertRefused("LogLength is 134217728, expected at most 67108864");
    }

    @Test
    void entriesThatClaimTheWholeLogOverAndOverEndInBoundedTime() {
        ByteBuffer file = image.file();
        for (int at = 0; at < MIB; at += SECTOR) {
            int entry = VhdxBuilder.LOG + at;
            file.put(entry, "loge".getBytes(StandardCharsets.US_ASCII));
            file.putInt(entry + 8, MIB).putLong(entry + 16, 1 + at);
            VhdxBuilder.guid(file, entry + 32, LogBuilder.GUID);
        }
        assertRefused("log");
    }

    @Test
    void replayedSectorsAreServedFromMemoryAmongMappedOnes() throws IOException {
        byte[] sector = bytes(SECTOR);
        log.add(new Entry(1, 0).data(BLOCK + 8192, sector).zero(BLOCK + MIB, SECTOR));
        System.arraycopy(sector, 0, content, 8192, SECTOR);
        Arrays.fill(content, MIB, MIB + SECTOR, (byte) 0);

        try (VhdxImage opened = open();
                AddressSpace space = AddressSpace.map(opened.flat())) {
            byte[] served = new byte[content.length];
            for (int run = 0, at = 0; at < served.length; run++) {
                int end = (int) space.runEnd(run);
                byte[] part = Linux.memory(space.address(run, at), end - at).toArray(ValueLayout.JAVA_BYTE);
                System.arraycopy(part, 0, served, at, part.length);
                at = end;
            }
            assertThat(Arrays.equals(served, content)).isTrue();
        }
    }

    private VhdxImage open() throws IOException {
        return VhdxImage.open(image.write(folder.resolve("disk.vhdx")), Confinement.OWN_FOLDER);
    }

    private void assertContent() throws IOException {
        try (VhdxImage opened = open()) {
            byte[] found = Contents.of(opened.flat());
            assertThat(Arrays.mismatch(found, content)).as("first wrong byte").isEqualTo(-1);
        }
    }

    private void assertRefused(String message) {
        ThrowingCallable opening = () -> open().close();
        assertThatThrownBy(opening).isInstanceOf(ImageException.class).hasMessageContaining(message);
    }

    private byte[] bytes(int length) {
        byte[] bytes = new byte[length];
        random.nextBytes(bytes);
        return bytes;
    }
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.rafs;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import io.airlift.compress.v3.lz4.Lz4Compressor;
import io.airlift.compress.v3.zstd.ZstdCompressor;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.zip.GZIPOutputStream;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/**
 * How long does a MiB take to decode? One chunk of 1 MiB, from native memory to native memory as a worker does it, of text
 * that shrinks to about a third; and what checking its digest adds.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(
        value = 2,
        jvmArgsAppend = {"-XX:+UseSerialGC", "--enable-native-access=ALL-UNNAMED"})
public class DecodeBenchmark {
    private static final int CHUNK = 1 << 20;

    @Param({"zstd", "lz4_block", "gzip", "none"})
    String format = "";

    private Compressor compressor = Compressor.NONE;

    private MemorySegment encoded = MemorySegment.NULL;
    private MemorySegment decoded = MemorySegment.NULL;

    @Setup(Level.Trial)
    public void setUp() {
        compressor = Compressor.valueOf(format.toUpperCase(Locale.ROOT));
        MemorySegment plain = text();
        decoded = Arena.global().allocate(CHUNK, 16);
        encoded = switch (compressor) {
            case NONE -> plain;
            case LZ4_BLOCK -> {
                Lz4Compressor lz4 = Lz4Compressor.create();
                MemorySegment out = Arena.global().allocate(lz4.maxCompressedLength(CHUNK), 16);
                yield out.asSlice(0, lz4.compress(plain, out));
            }
            case ZSTD -> {
                ZstdCompressor zstd = ZstdCompressor.create();
                MemorySegment out = Arena.global().allocate(zstd.maxCompressedLength(CHUNK), 16);
                yield out.asSlice(0, zstd.compress(plain, out));
            }
            case GZIP -> gzip(plain);
        };
        System.out.println(compressor + ": " + encoded.byteSize() + " bytes");
    }

    private static MemorySegment gzip(MemorySegment plain) {
        try (var bytes = new ByteArrayOutputStream()) {
            try (var gzip = new GZIPOutputStream(bytes)) {
                gzip.write(plain.toArray(JAVA_BYTE));
            }
            return Arena.global().allocateFrom(JAVA_BYTE, bytes.toByteArray());
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Words of a vocabulary by a skewed choice, as in source text. */
    private static MemorySegment text() {
        Random random = new Random(1);
        String[] words = new String[4096];
        for (int i = 0; i < words.length; i++) {
            byte[] word = new byte[2 + random.nextInt(9)];
            for (int j = 0; j < word.length; j++) {
                word[j] = (byte) ('a' + random.nextInt(26));
            }
            words[i] = new String(word, StandardCharsets.US_ASCII);
        }
        StringBuilder text = new StringBuilder();
        while (text.length() < CHUNK) {
            double choice = random.nextDouble();
            text.append(words[(int) (choice * choice * choice * words.length)])
                    .append(random.nextInt(8) == 0 ? '\n' : ' ');
        }
        byte[] bytes = text.substring(0, CHUNK).getBytes(StandardCharsets.US_ASCII);
        return Arena.global().allocateFrom(JAVA_BYTE, bytes);
    }

    @Benchmark
    public MemorySegment decode() throws MalformedException {
        compressor.decompress(encoded, decoded);
        return decoded;
    }

    /** With the digest that most images have. */
    @Benchmark
    public byte[] decodeAndDigest() throws MalformedException {
        compressor.decompress(encoded, decoded);
        return Digester.SHA256.digest(decoded);
    }
}

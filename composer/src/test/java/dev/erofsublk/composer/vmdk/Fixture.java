// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * A small disk of one form, the files it consists of, and where the fields of one of them are: what the corruption
 * matrix and the fuzzer damage.
 *
 * @param name of the form
 * @param open the file to open
 * @param damaged the file that has the fields
 * @param files all files by name
 * @param fields of the damaged file
 * @param expected the content
 */
@SuppressWarnings("ArrayRecordComponent") // never compared
record Fixture(
        String name, String open, String damaged, Map<String, byte[]> files, List<Field> fields, byte[] expected) {

    /** A little-endian number of {@code bytes} bytes at {@code offset} of a file. */
    record Field(String name, int offset, int bytes) {}

    @Override
    public String toString() {
        return name;
    }

    /** Writes all files, with {@code content} in the place of the one to be damaged; returns the one to open. */
    Path write(Path folder, byte[] content) throws IOException {
        for (var file : files.entrySet()) {
            Files.write(folder.resolve(file.getKey()), file.getKey().equals(damaged) ? content : file.getValue());
        }
        return folder.resolve(open);
    }

    /** The same disk, with {@code other} to be damaged, of which no fields are known. */
    Fixture damagedIn(String other) {
        return new Fixture(name, open, other, files, List.of(), expected);
    }

    byte[] damagedFile() {
        return files.getOrDefault(damaged, new byte[0]).clone();
    }

    static List<Fixture> all() {
        Random random = new Random(2024);
        List<Fixture> all = new ArrayList<>();
        all.add(sparse("monolithicSparse", plain(random, true)));
        all.add(sparse("monolithicSparse, one directory", plain(random, false)));
        SparseBuilder zeroed = plain(random, true);
        zeroed.zeroed.addAll(List.of(3, 4, 70));
        zeroed.stored.keySet().removeAll(zeroed.zeroed);
        all.add(sparse("monolithicSparse, zeroed grains", zeroed));
        all.add(sparse("two tables, directory of two sectors", big(random)));
        for (boolean footer : new boolean[] {false, true}) {
            SparseBuilder stream = plain(random, false);
            stream.compressed = true;
            stream.footer = footer;
            stream.version = 3;
            all.add(sparse("streamOptimized" + (footer ? " with a footer" : ""), stream));
        }
        SparseBuilder bare = plain(random, true);
        bare.compressed = true;
        bare.markers = false;
        all.add(sparse("compressed without markers", bare));
        all.add(footer(random));
        all.add(split(random));
        all.add(cowd(random));
        all.add(seSparse(random));
        all.add(embedded(random));
        return all;
    }

    private static SparseBuilder plain(Random random, boolean redundant) {
        SparseBuilder b = new SparseBuilder(1003, 8, "d.vmdk").fill(random, 50);
        b.redundant = redundant;
        byte[] first = new byte[8 * 512];
        random.nextBytes(first);
        b.stored.put(0, first);
        return b;
    }

    private static SparseBuilder big(Random random) {
        SparseBuilder b = new SparseBuilder(8 * 512 * 130L, 8, "d.vmdk").fill(random, 1);
        b.redundant = false;
        return b;
    }

    private static List<Field> header(int at) {
        return List.of(
                new Field("magic", at, 4),
                new Field("version", at + 4, 4),
                new Field("flags", at + 8, 4),
                new Field("capacity", at + 12, 8),
                new Field("grainSize", at + 20, 8),
                new Field("descriptorOffset", at + 28, 8),
                new Field("descriptorSize", at + 36, 8),
                new Field("numGTEsPerGT", at + 44, 4),
                new Field("rgdOffset", at + 48, 8),
                new Field("gdOffset", at + 56, 8),
                new Field("overHead", at + 64, 8),
                new Field("uncleanShutdown", at + 72, 1),
                new Field("newlines", at + 73, 4),
                new Field("compressAlgorithm", at + 77, 2),
                new Field("padding", at + 300, 8));
    }

    private static Fixture sparse(String name, SparseBuilder b) {
        byte[] file = b.build();
        List<Field> fields = new ArrayList<>(header(0));
        if (b.compressed && b.markers) {
            int grain = b.grainAt(b.stored.firstKey());
            fields.add(new Field("marker lba", grain, 8));
            fields.add(new Field("marker size", grain + 8, 4));
        }
        if (b.redundant) { // without a second directory a changed entry is simply another disk
            for (int directory : new int[] {(int) b.gd, (int) b.rgd}) {
                int at = directory * 512;
                int table = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN).getInt(at) * 512;
                fields.add(new Field("directory entry at " + at, at, 4));
                for (int i : new int[] {0, 1, 3, 70, 125}) {
                    fields.add(new Field("table entry at " + (table + 4 * i), table + 4 * i, 4));
                }
            }
        }
        return new Fixture(name, "d.vmdk", "d.vmdk", Map.of("d.vmdk", file), fields, b.expected());
    }

    private static Fixture footer(Random random) {
        SparseBuilder stream = plain(random, false);
        stream.compressed = true;
        stream.footer = true;
        byte[] file = stream.build();
        int at = (int) stream.footerSector * 512;
        List<Field> fields = new ArrayList<>(header(at));
        fields.add(new Field("footer marker sectors", at - 512, 8));
        fields.add(new Field("footer marker size", at - 504, 4));
        fields.add(new Field("footer marker type", at - 500, 4));
        fields.add(new Field("footer marker padding", at - 496, 8));
        fields.add(new Field("end marker sectors", at + 512, 8));
        fields.add(new Field("end marker size", at + 512 + 8, 4));
        fields.add(new Field("end marker type", at + 512 + 12, 4));
        fields.add(new Field("directory marker sectors", (int) (stream.gd - 1) * 512, 8));
        fields.add(new Field("directory marker size", (int) (stream.gd - 1) * 512 + 8, 4));
        fields.add(new Field("directory marker type", (int) (stream.gd - 1) * 512 + 12, 4));
        return new Fixture("footer", "d.vmdk", "d.vmdk", Map.of("d.vmdk", file), fields, stream.expected());
    }

    private static Fixture split(Random random) {
        SparseBuilder b = plain(random, true);
        b.descriptor = "";
        String text = SparseBuilder.descriptor("twoGbMaxExtentSparse", "RW 1003 SPARSE \"s1\"", "1", "");
        Map<String, byte[]> files = Map.of("d.vmdk", text.getBytes(StandardCharsets.UTF_8), "s1", b.build());
        return new Fixture("twoGbMaxExtentSparse", "d.vmdk", "s1", files, header(0), b.expected());
    }

    private static Map<Integer, byte[]> grains(Random random, int count, int of, int bytes) {
        Map<Integer, byte[]> grains = new LinkedHashMap<>();
        for (int i = 0; i < count; i++) {
            byte[] data = new byte[bytes];
            random.nextBytes(data);
            grains.put(random.nextInt(of), data);
        }
        return grains;
    }

    private static Fixture cowd(Random random) {
        Map<Integer, byte[]> grains = grains(random, 60, 5000, 512);
        byte[] expected = new byte[5000 * 512];
        grains.forEach((i, data) -> System.arraycopy(data, 0, expected, i * 512, 512));
        String text = SparseBuilder.descriptor("vmfsSparse", "RW 5000 VMFSSPARSE \"delta\"", "1", "");
        Map<String, byte[]> files =
                Map.of("d.vmdk", text.getBytes(StandardCharsets.UTF_8), "delta", EsxBuilder.cowd(5000, 1, grains));
        List<Field> fields = new ArrayList<>();
        String[] names = {"magic", "version", "flags", "capacity", "grainSize", "gdOffset", "numGDEntries", "nextFree"};
        for (int i = 0; i < names.length; i++) {
            fields.add(new Field(names[i], i * 4, 4));
        }
        for (int at : new int[] {32, 36, 40, 1056, 1060, 1636}) {
            fields.add(new Field("geometry or generation at " + at, at, 4));
        }
        for (int at : new int[] {44, 1064, 1124, 1640, 1652}) {
            fields.add(new Field("name, text or padding at " + at, at, 8));
        }
        fields.add(new Field("dirty", 1648, 4));
        return new Fixture("vmfsSparse", "d.vmdk", "delta", files, fields, expected);
    }

    private static Fixture seSparse(Random random) {
        Map<Integer, byte[]> grains = grains(random, 60, 9000, 4096);
        grains.put(1, EsxBuilder.ZERO);
        grains.put(2, EsxBuilder.UNMAPPED);
        byte[] expected = new byte[9000 * 4096];
        grains.forEach((i, data) -> {
            if (data.length > 1) {
                System.arraycopy(data, 0, expected, i * 4096, 4096);
            }
        });
        String text = SparseBuilder.descriptor("seSparse", "RW 72000 SESPARSE \"delta\"", "1", "");
        Map<String, byte[]> files =
                Map.of("d.vmdk", text.getBytes(StandardCharsets.UTF_8), "delta", EsxBuilder.seSparse(72000, grains));
        List<Field> fields = new ArrayList<>();
        for (int i = 0; i < 27; i++) {
            fields.add(new Field("word " + i, i * 8, 8));
        }
        for (int i = 0; i < 5; i++) {
            fields.add(new Field("volatile word " + i, 512 + i * 8, 8));
        }
        return new Fixture("seSparse", "d.vmdk", "delta", files, fields, expected);
    }

    private static Fixture embedded(Random random) {
        byte[] flat = new byte[300 * 512];
        random.nextBytes(flat);
        SparseBuilder b = new SparseBuilder(128, 128, "");
        b.redundant = false;
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < 60; i++) {
            lines.append("RW 5 FLAT \"f\" ").append(i * 5).append('\n');
        }
        b.descriptor = SparseBuilder.descriptor("twoGbMaxExtentFlat", lines.toString(), "1", "");
        byte[] file = Arrays.copyOf(b.build(), 21 * 512);
        Arrays.fill(file, 12, 20, (byte) 0);
        return new Fixture(
                "embedded descriptor", "d.vmdk", "d.vmdk", Map.of("d.vmdk", file, "f", flat), header(0), flat);
    }
}

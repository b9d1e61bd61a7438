// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.cli;

import dev.erofsublk.composer.FlatImage;
import dev.erofsublk.composer.Image;
import dev.erofsublk.composer.export.OutputFile;
import dev.erofsublk.composer.export.RawExport;
import dev.erofsublk.composer.verity.Salt;
import dev.erofsublk.composer.verity.VerityImage;
import dev.erofsublk.composer.vhd.VhdWriter;
import dev.erofsublk.composer.vmdk.VmdkDescriptorWriter;
import dev.erofsublk.composer.vmdk.VmdkStreamWriter;
import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** Writes the device that an image makes into a file. */
@Command(
        name = "export",
        mixinStandardHelpOptions = true,
        description = "Write the device that an image makes into a file, without ublk.",
        footer = "The file appears under its name only when it is complete and on the disk.")
final class ExportCommand implements Callable<Integer> {
    private static final int COMPRESSION = 6; // zlib's own choice between fast and small

    @Mixin
    private SourceOptions source = new SourceOptions();

    @ArgGroup(multiplicity = "1")
    private @Nullable Target target;

    @Option(names = "--force", description = "Replace the file if it exists.")
    private boolean force;

    @Mixin
    private VerityOptions verity = new VerityOptions();

    @Spec
    private @Nullable CommandSpec spec;

    /** What to write; each format is an option of its own. */
    static final class Target {
        @Option(names = "--raw", paramLabel = "OUT", description = "The device, byte for byte, as a sparse file.")
        @Nullable
        Path raw;

        @Option(
                names = "--vmdk-desc",
                paramLabel = "OUT",
                description =
                        "A VMDK descriptor over the image's own files, for hypervisors; beside it OUT-zeros.raw and"
                                + " OUT-bytes.raw if they are needed.")
        @Nullable
        Path vmdkDescriptor;

        @Option(
                names = "--vmdk",
                paramLabel = "OUT",
                description = "A stream-optimised VMDK: the device in one compressed file.")
        @Nullable
        Path vmdk;

        @Option(names = "--vhd", paramLabel = "OUT", description = "A fixed VHD: the device and a footer, sparse.")
        @Nullable
        Path vhd;
    }

    @Override
    public Integer call() throws IOException {
        if (target == null) {
            throw new IllegalStateException("not run by picocli");
        }
        Salt salt = verity.salt().orElse(null);
        if (salt != null && target.raw == null) {
            throw usage("--verity goes with --raw: the tree needs a file of its own");
        }
        try (Image image = source.open()) {
            if (target.raw != null && salt != null) {
                exportWithTree(image, target.raw, salt);
            } else {
                write(target, image.flat());
            }
        }
        return 0;
    }

    private void write(Target to, FlatImage flat) throws IOException {
        if (to.vmdkDescriptor != null) {
            VmdkDescriptorWriter.write(flat, to.vmdkDescriptor, force);
            return;
        }
        try (ProgressLine progress = new ProgressLine("writing", flat.size())) {
            if (to.vmdk != null) {
                VmdkStreamWriter.write(flat, to.vmdk, force, COMPRESSION, progress);
            } else if (to.vhd != null) {
                VhdWriter.write(flat, to.vhd, force, progress);
            } else if (to.raw != null) {
                RawExport.write(flat, to.raw, force, progress);
            }
        }
    }

    private void exportWithTree(Image image, Path out, Salt salt) throws IOException {
        OutputFile.refuse(image.flat(), out, force); // before the work of hashing
        try (VerityImage protectedImage = protect(image, salt)) {
            try (ProgressLine progress =
                    new ProgressLine("writing", protectedImage.flat().size())) {
                RawExport.write(protectedImage.flat(), out, force, progress);
            }
            String device = shellQuoted(out.toAbsolutePath().toString());
            System.out.println("root hash  " + protectedImage.tree().rootHash());
            System.out.println(protectedImage.tree().openCommand(device, "NAME"));
        }
    }

    private static VerityImage protect(Image image, Salt salt) throws IOException {
        try (ProgressLine progress = new ProgressLine("hashing", image.flat().size())) {
            return VerityImage.of(image, salt, Runtime.getRuntime().availableProcessors(), progress);
        }
    }

    /** A word for a shell that stays one, whatever is in it. */
    static String shellQuoted(String word) {
        return word.matches("[A-Za-z0-9_./:@%+,=-]+") ? word : "'" + word.replace("'", "'\\''") + "'";
    }

    private ParameterException usage(String message) {
        if (spec == null) {
            throw new IllegalStateException("not run by picocli");
        }
        return new ParameterException(spec.commandLine(), message);
    }
}

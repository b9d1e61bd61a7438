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

/** Writes the device that an image makes into a file. */
final class ExportCommand extends Command {
    private static final int COMPRESSION = 6; // zlib's own choice between fast and small

    private final SourceOptions source = new SourceOptions(this);

    private final Option<Boolean> force = flag("--force", "Replace the file if it exists.");

    private final VerityOptions verity = new VerityOptions(this);

    private final Option<Path> raw = option("--raw", Path.class, "OUT", "The device, byte for byte, as a sparse file.");

    private final Option<Path> vmdkDescriptor = option(
            "--vmdk-desc",
            Path.class,
            "OUT",
            "A VMDK descriptor over the image's own files, for hypervisors; beside it OUT-zeros.raw and"
                    + " OUT-bytes.raw if they are needed.");

    private final Option<Path> vmdk =
            option("--vmdk", Path.class, "OUT", "A stream-optimised VMDK: the device in one compressed file.");

    private final Option<Path> vhd =
            option("--vhd", Path.class, "OUT", "A fixed VHD: the device and a footer, sparse.");

    ExportCommand() {
        super("export", "Write the device that an image makes into a file, without ublk.");
        oneOf(raw, vmdkDescriptor, vmdk, vhd);
        footer("The file appears under its name only when it is complete and on the disk.");
    }

    @Override
    public Integer call() throws IOException {
        Salt salt = verity.salt().orElse(null);
        refuse(salt != null && !raw.isGiven(), "--verity goes with --raw: the tree needs a file of its own");
        try (Image image = source.open()) {
            if (salt != null) {
                exportWithTree(image, raw.given(), salt);
            } else {
                write(image.flat(), force.isGiven());
            }
        }
        return 0;
    }

    /** Writes the one format that was asked for. */
    private void write(FlatImage flat, boolean replace) throws IOException {
        if (vmdkDescriptor.isGiven()) {
            VmdkDescriptorWriter.write(flat, vmdkDescriptor.given(), replace);
            return;
        }
        try (ProgressLine progress = new ProgressLine("writing", flat.size())) {
            if (vmdk.isGiven()) {
                VmdkStreamWriter.write(flat, vmdk.given(), replace, COMPRESSION, progress);
            } else if (vhd.isGiven()) {
                VhdWriter.write(flat, vhd.given(), replace, progress);
            } else {
                RawExport.write(flat, raw.given(), replace, progress);
            }
        }
    }

    private void exportWithTree(Image image, Path out, Salt salt) throws IOException {
        OutputFile.refuse(image.flat(), out, force.isGiven()); // before the work of hashing
        try (VerityImage protectedImage = protect(image, salt)) {
            try (ProgressLine progress =
                    new ProgressLine("writing", protectedImage.flat().size())) {
                RawExport.write(protectedImage.flat(), out, force.isGiven(), progress);
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
}

// SPDX-License-Identifier: Apache-2.0
package dev.erofsublk.composer.vmdk;

/** What no image may exceed: the bounds of every allocation and every loop over what a header says. */
final class Limits {
    /** Bytes of a sector, the unit of the format. */
    static final int SECTOR = 512;

    /** Sectors of a device: 512 TiB, eight times what VMware allows and the most that facts/vmdisk.md §1a saw tried. */
    static final long DEVICE_SECTORS = 1L << 40;

    /** Entries of a grain directory, as in QEMU: 128 MiB of them. */
    static final long DIRECTORY_ENTRIES = 1 << 25;

    /** Sectors of a grain, as in QEMU: 1 GiB. */
    static final long GRAIN_SECTORS = 0x200000;

    /** Sectors of a compressed grain: 16 MiB, since a whole one has to be in memory. */
    static final long COMPRESSED_GRAIN_SECTORS = 0x8000;

    /** Bytes of a descriptor: QEMU reads no more and silently loses the rest (facts/vmdisk.md §0.2). */
    static final int DESCRIPTOR_BYTES = (1 << 20) - 1;

    /** Bytes of a file name in a descriptor, as in QEMU. */
    static final int NAME_BYTES = 511;

    /** Links of a chain of parents; VMware stops at 32. */
    static final int CHAIN = 256;

    private Limits() {}
}

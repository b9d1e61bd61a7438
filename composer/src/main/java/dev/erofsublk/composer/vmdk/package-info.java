// SPDX-License-Identifier: Apache-2.0
/**
 * VMware's virtual disks: {@link dev.erofsublk.composer.vmdk.VmdkImage} reads them, and
 * {@link dev.erofsublk.composer.vmdk.VmdkDescriptorWriter} and {@link dev.erofsublk.composer.vmdk.VmdkStreamWriter}
 * write what other tools read.
 *
 * <p>Sources of the format facts: VMware's "Virtual Disk Format" 1.1 and 5.0, libyal's documentation, and what QEMU's
 * driver was seen to do (facts/vmdisk.md §0, §1a and §2). Unless a name says otherwise, offsets and lengths of the format are in sectors of 512
 * bytes, and those of the project are in bytes.
 */
@NullMarked
package dev.erofsublk.composer.vmdk;

import org.jspecify.annotations.NullMarked;

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by the image builders: directories of the cache that are either complete or absent.

vm_lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
vm_scripts=$(cd "$vm_lib/../../scripts/lib" && pwd)

# The packages of the guest, from bookworm; their dependencies come along. Tools that builders run come from here too.
guest_packages=(
    base-files base-passwd bash coreutils cpio debianutils diffutils e2fsprogs findutils grep gzip hostname iproute2 kmod libc-bin
    libpam-runtime mawk mount netbase perl-base procps psmisc python3-minimal sed socat strace sysvinit-utils tar util-linux xz-utils zstd
    attr busybox-static cryptsetup-bin curl dmsetup fio jq libnbd-bin nbd-client nbdkit openssl qemu-utils
)

guest_root() { "$vm_scripts/debs" --closure guest bookworm "${guest_packages[@]}"; }

# cached NAME KEY-TEXT BUILDER: prints the directory; BUILDER is called with an empty one to fill where there is none yet.
# Directories of NAME that no run has used for 30 days are removed when a new one is made.
cached() {
    local name=$1 key=$2 builder=$3 cache directory
    cache=${EROFS_UBLK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/erofs-ublk}
    cache=$(realpath -m "$cache")
    directory=$cache/vm/$name-$(printf '%s' "$key" | sha256sum | cut -c 1-16)
    if [ ! -d "$directory" ]; then
        mkdir -p "$cache/vm" "$cache/locks"
        exec 7>"$cache/locks/vm-$name"
        flock 7
        if [ ! -d "$directory" ]; then
            echo "vm: building $name" >&2
            building=$(mktemp -d "$cache/vm/.$name.XXXXXX")
            trap 'rm -rf "$building"' EXIT
            trap 'exit 130' INT
            trap 'exit 143' TERM
            "$builder" "$building" >&2
            chmod 755 "$building"
            mv "$building" "$directory"
            find "$cache/vm" -mindepth 1 -maxdepth 1 -name "$name-*" ! -path "$directory" -mtime +30 -exec rm -rf {} +
        fi
        exec 7>&-
    fi
    touch "$directory"
    printf '%s\n' "$directory"
}

mkfs_image() { # IMAGE [MKFS-OPTION...] SOURCE
    local image=$1
    shift
    "$("$vm_scripts/erofs-utils")/mkfs.erofs" --quiet "$image" "$@"
}

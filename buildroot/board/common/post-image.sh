#!/bin/sh
# Packs the disk: post-image.sh IMAGES BOARD. The root's hash tree stands behind the root in the same partition, the root hash in the slot's slot.env.
set -eu
images=$1
board=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$images/root.verity
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/root" # genimage copies its root, which is empty, into its own folder: that cannot be in it

cp "$images/rootfs.squashfs" "$root"
size=$(stat -c %s "$root")
[ $((size % 4096)) = 0 ] || {
	echo "post-image: the root is not whole blocks of 4096 bytes" >&2
	exit 1
}
blocks=$((size / 4096))
# The salt is of the content: the same root always makes the same image.
salt=$(sha256sum "$root" | cut -c 1-64)
hash=$("$HOST_DIR/sbin/veritysetup" format --salt "$salt" --uuid 00000000-0000-0000-0000-000000000000 \
	--data-block-size 4096 --hash-block-size 4096 --data-blocks "$blocks" --hash-offset "$size" "$root" "$root" |
	sed -n 's/^Root hash:[[:space:]]*//p')
[ -n "$hash" ] || {
	echo "post-image: veritysetup gave no root hash" >&2
	exit 1
}
# The tree begins behind its own header of one block.
cat >"$images/slot.env" <<END
verity_sectors=$((blocks * 8))
verity_blocks=$blocks
verity_start=$((blocks + 1))
verity_hash=$hash
verity_salt=$salt
slot_dtb=$(sed -n 's/^dtb=//p' "$here/../$board/slot")
slot_args=$(sed -n 's/^args=//p' "$here/../$board/slot")
END
"$HOST_DIR/bin/genimage" --rootpath "$tmp/root" --tmppath "$tmp/genimage" --inputpath "$images" --outputpath "$images" \
	--config "$here/../$board/genimage.cfg"
if grep -q '^BR2_TARGET_ENABLE_ROOT_LOGIN=y' "${BR2_CONFIG:?}"; then
	mv "$images/vindu.img" "$images/vindu-debug.img"
	echo "post-image: $images/vindu-debug.img: NOT for a home: anybody can log in"
fi
